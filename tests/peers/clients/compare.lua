-- wrk as a client that compares: `wrk -t1 -s compare.lua URL -- FILE PUT_NAME COUNT`. GETs /big and
-- PUTs the file in turn, compares each content that comes back with the file, and says `enough` after
-- COUNT answers: wrk itself would go on until its time is over, so it is to be interrupted then. At
-- the end it says how many were right and how many wrong.

local content, target, count
local asked, answered = 0, 0

-- wrk's summary runs outside its threads, and reads these two from the one thread.
right, wrong = 0, 0

local worker
function setup(thread)
    worker = thread
end

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    content = file:read("*a")
    file:close()
    target, count = "/" .. arguments[2], tonumber(arguments[3])
end

function request()
    asked = asked + 1
    if asked % 2 == 0 then
        return wrk.format("PUT", target, nil, content)
    end
    return wrk.format("GET", "/big")
end

function response(status, _, body)
    answered = answered + 1
    -- An answer to a PUT is short, and what it says is the server's own affair.
    local is_right = status == 200 and body == content or status >= 200 and status <= 204 and #body < 1024
    if is_right then right = right + 1 else wrong = wrong + 1 end
    if answered == count then
        print("enough")
        io.stdout:flush()
        wrk.thread:stop()
    end
end

function done()
    print(string.format("right %d wrong %d", worker:get("right"), worker:get("wrong")))
end
