#!/usr/bin/env bash
#
# What does a request cost? Runs bestguess, nginx and HAProxy, one thread each, before the same
# servers, loads each in turn with wrk, and prints one Markdown table.
#
# What the numbers are, and how they are kept comparable:
#   - The figure to trust is CPU time per request: what the kernel charged to the program, divided by
#     the requests that wrk counted. It is sampled while all connections are closed and the program
#     sleeps. Requests per second also contain what wrk and the servers cost.
#   - The programs take turns in short runs, in an order that rotates from round to round, so that a
#     busy minute on this machine falls on all of them. Medians are shown, and the range beside them.
#   - Each workload starts the programs anew, so that peak memory belongs to that workload alone.
#   - Before it is loaded, every program must deliver the content unchanged.
#
# Everything listens on 127.0.0.1, on ports that were free, and lives in one temporary directory.
# Slowness never fails this script; errors of bestguess do.

set -Eeuo pipefail
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

readonly PROGRAMS=(bestguess nginx haproxy)
readonly WORKLOADS_ALL=(keep64 keep512 browser servers64 pipe16 close64 large64k large1m post1m idle)
readonly CONNECTIONS_MAX=8192  # of a workload keepN
readonly SERVERS=3             # but for the workload servers64
readonly SERVERS_MANY=64
readonly IDLE_CLIENTS=4000
readonly IDLE_SPREAD_MS=2000   # their requests come over so long, so that no burst is measured
readonly WARM_UP_SECONDS=1
readonly ATTEMPTS=5            # to find free ports
readonly OPEN_FILES=32768      # asked for; as much of it as is allowed is used
readonly OPEN_FILES_MIN=4096
readonly ROUNDS_MAX=1000
readonly SECONDS_MAX=600

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary_built=${CARGO_TARGET_DIR:-$root/target}/release/bestguess

usage() {
    cat <<TEXT
usage: tests/bench/wrk.sh [OPTIONS]

Compares bestguess with nginx and HAProxy by wrk: CPU time per request, requests per second, memory.
What is missing of wrk, nginx and haproxy is installed from Debian's packages.

  --bin PATH          the bestguess to measure; also BESTGUESS_BIN
                      (target/release/bestguess, built if it is missing)
  --workloads A,B,…   which of them; also BENCH_WORKLOADS (all)
                        keep64    64 keep-alive connections, 256 B; keep512, keepN: so many
                        browser   the same with the fields that a browser sends, 1 KiB
                        servers64 keep64 before 64 servers
                        pipe16    keep64, 16 requests sent at once
                        close64   64 clients, a new connection per request, 256 B
                        large64k  64 keep-alive connections, 64 KiB
                        large1m   64 keep-alive connections, 1 MiB
                        post1m    64 keep-alive connections, requests with 1 MiB
                        idle      memory for each of 4,000 connections that rest after a request
  --rounds N          runs of each program per workload; also BENCH_ROUNDS (4)
  --seconds S         whole seconds per run; also BENCH_SECONDS (1)
  --layout LAYOUT     who runs on which CPU; also BENCH_LAYOUT (one)
                        one       all on one CPU: each wake-up handles a full batch and nothing waits
                                  for another CPU; the most repeatable
                        two       the program alone on one CPU, wrk and the servers on another
                        free      wherever the kernel puts them
  --no-install        fail rather than install a missing tool
  -h, --help          this text

Exit status: 0 measured, 1 bestguess had errors or nothing could be measured, 2 wrong arguments.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "wrk.sh: $*"; exit 1; }
usage_error() { say "wrk.sh: $* (see --help)"; exit 2; }

# ------------------------------------------------------------------------------------- arguments

# whole_number NAME VALUE MAX
whole_number() {
    if [[ ! $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 > $3)); then
        usage_error "$1: expected a whole number from 1 to $3, found '$2'"
    fi
}

parse_arguments() {
    binary=${BESTGUESS_BIN:-}
    rounds=${BENCH_ROUNDS:-4}
    seconds=${BENCH_SECONDS:-1}
    layout=${BENCH_LAYOUT:-one}
    local list=${BENCH_WORKLOADS:-} option value
    install=yes
    while (($# > 0)); do
        option=$1
        shift
        case $option in
        -h | --help) usage; exit 0 ;;
        --no-install) install=no; continue ;;
        --bin=* | --workloads=* | --rounds=* | --seconds=* | --layout=*)
            value=${option#*=}
            option=${option%%=*} ;;
        --bin | --workloads | --rounds | --seconds | --layout)
            (($# > 0)) || usage_error "$option: expected a value behind it"
            value=$1
            shift ;;
        -*) usage_error "unknown option '$option'" ;;
        *) usage_error "unexpected argument '$option'" ;;
        esac
        [[ -n $value ]] || usage_error "$option: expected a value, found nothing"
        case $option in
        --bin) binary=$value ;;
        --workloads) list=$value ;;
        --rounds) rounds=$value ;;
        --seconds) seconds=$value ;;
        --layout) layout=$value ;;
        esac
    done

    whole_number --rounds "$rounds" "$ROUNDS_MAX"
    whole_number --seconds "$seconds" "$SECONDS_MAX"
    [[ $layout =~ ^(one|two|free)$ ]] ||
        usage_error "--layout: expected one, two or free, found '$layout'"
    if [[ -n $binary && ! (-f $binary && -x $binary) ]]; then
        usage_error "--bin: '$binary' is not an executable file"
    fi

    workloads=("${WORKLOADS_ALL[@]}")
    if [[ -n $list ]]; then
        IFS=', ' read -r -a workloads <<<"$list"
        ((${#workloads[@]} > 0)) || usage_error "--workloads: expected a name, found '$list'"
        local name
        for name in "${workloads[@]}"; do
            if [[ $name =~ ^keep[1-9][0-9]{0,3}$ ]] && ((${name#keep} <= CONNECTIONS_MAX)); then continue; fi
            [[ -n $name && " ${WORKLOADS_ALL[*]} " == *" $name "* ]] ||
                usage_error "--workloads: expected any of ${WORKLOADS_ALL[*]}, or keepN with N up to $CONNECTIONS_MAX, found '$name'"
        done
    fi
}

readonly BROWSER=(
    -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
    -H 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8'
    -H 'Accept-Language: en-GB,en;q=0.7,de;q=0.3'
    -H 'Accept-Encoding: gzip, deflate, br, zstd'
    -H 'Referer: http://bench.example/catalogue/tables?page=3'
    -H 'Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=necessary'
    -H 'Sec-Fetch-Dest: document' -H 'Sec-Fetch-Mode: navigate' -H 'Sec-Fetch-Site: same-origin'
    -H 'Upgrade-Insecure-Requests: 1' -H 'Priority: u=0, i'
)

# describe WORKLOAD: sets for it the connections, the file, what else wrk is told, and the servers.
describe() {
    connections=64 file=256 extra=() server_ports=("${files_ports[@]:0:SERVERS}")
    case $1 in
    keep*) connections=${1#keep} ;;
    browser) file=1k extra=("${BROWSER[@]}") ;;
    servers64) server_ports=("${files_ports[@]}") ;;
    pipe16) extra=(-s "$work/pipe16.lua") ;;
    close64) extra=(-H 'Connection: close') ;;
    large64k) file=64k ;;
    large1m) file=1m ;;
    post1m) extra=(-s "$work/post1m.lua") server_ports=("${taking_ports[@]}") ;;
    idle) connections=$IDLE_CLIENTS extra=(-s "$work/idle.lua") ;;
    esac
}

# What wrk cannot be told by options.
write_scripts() {
    cat >"$work/pipe16.lua" <<'LUA'
function init() many = string.rep(wrk.format(), 16) end
function request() return many end
LUA
    cat >"$work/post1m.lua" <<'LUA'
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
LUA
    # The first call for each connection delays its one request a little, each later call for good.
    cat >"$work/idle.lua" <<LUA
local calls = 0
function delay()
    calls = calls + 1
    if calls > $IDLE_CLIENTS then return 600000 end
    return math.floor(calls * $IDLE_SPREAD_MS / $IDLE_CLIENTS)
end
LUA
}

# ----------------------------------------------------------------------------------------- tools

as_root=()

# Debian starts a service as soon as it is installed, unless /usr/sbin/policy-rc.d forbids it. One
# that is there already is the administrator's and is left alone.
guarded=no
guard_services() {
    [[ ! -e /usr/sbin/policy-rc.d ]] || return 0
    guarded=yes
    # shellcheck disable=SC2016  # the inner shell expands nothing
    "${as_root[@]}" sh -c 'printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d &&
        chmod 755 /usr/sbin/policy-rc.d'
}
unguard_services() {
    [[ $guarded == yes ]] || return 0
    guarded=no
    "${as_root[@]}" rm -f /usr/sbin/policy-rc.d || say "wrk.sh: please remove /usr/sbin/policy-rc.d"
}

install_tools() {
    local missing=() tool
    for tool in wrk nginx haproxy; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} > 0)) || return 0

    local text="missing: ${missing[*]}"
    [[ $install == yes ]] || fail "$text; install it, or run without --no-install"
    command -v apt-get >/dev/null || fail "$text; there is no apt-get here, so install it by hand"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "$text; to install it, run as root or install sudo"
        as_root=(sudo)
        [[ -t 0 ]] || as_root=(sudo -n)
    fi
    say "installing ${missing[*]}"
    guard_services || fail "$text; cannot write /usr/sbin/policy-rc.d, which keeps services from starting"
    {
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends "${missing[@]}"
    } >"$work/apt.log" 2>&1 </dev/null || {
        tail -n 5 "$work/apt.log" >&2
        fail "$text; apt-get could not install it"
    }
    unguard_services
    for tool in "${missing[@]}"; do
        hash -r
        command -v "$tool" >/dev/null || fail "missing: $tool; its package was installed without it"
    done
}

find_binary() {
    [[ -z $binary ]] || return 0
    binary=$binary_built
    if [[ ! -x $binary ]]; then
        command -v cargo >/dev/null || fail "missing: cargo, to build $binary; or name one by --bin"
        say "building $binary"
        (cd "$root" && cargo build --release >&2) || fail "cargo build --release failed"
        [[ -x $binary ]] || fail "cargo build --release left no $binary"
    elif [[ -n $(find "$root/src" "$root/Cargo.toml" -newer "$binary" -print -quit 2>/dev/null) ]]; then
        say "note: the source is newer than $binary; 'cargo build --release' brings it up to date"
    fi
}

raise_open_files() {
    local hard
    hard=$(ulimit -H -n)
    if [[ $hard == unlimited ]] || ((hard > OPEN_FILES)); then hard=$OPEN_FILES; fi
    ((hard >= OPEN_FILES_MIN)) ||
        fail "the limit of open files is $hard; at least $OPEN_FILES_MIN are needed (ulimit -n)"
    ulimit -S -n "$hard"
    open_files=$hard
}

# ------------------------------------------------------------------------------------- processes

# Every process started here, with its start time, so that a number the kernel has given to somebody
# else meanwhile is never signalled.
declare -A started=()

# stat_fields PID: sets fields to what /proc/PID/stat says from the state on: 0 state, 1 parent,
# 11 and 12 ticks in user and system, 19 start time. False if there is no such process.
stat_fields() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    read -r -a fields <<<"${line##*) }"
    ((${#fields[@]} > 19)) # a name with a line break in it is none of ours
}

track() {
    stat_fields "$1" || return 1
    started[$1]=${fields[19]}
}

is_running() {
    stat_fields "$1" && [[ ${fields[0]} != Z && ${fields[19]} == "${started[$1]:-}" ]]
}

# launch LOG CPU COMMAND…: sets pid.
launch() {
    local log=$1 cpu=$2
    shift 2
    local pin=()
    [[ -z $cpu ]] || pin=(taskset -c "$cpu")
    "${pin[@]}" "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    track "$pid" || true
}

# stop PID…: TERM, two seconds of grace, KILL.
stop() {
    local one waiting
    for one; do
        if is_running "$one"; then kill -TERM "$one" 2>/dev/null || true; fi
    done
    for _ in {1..40}; do
        waiting=no
        for one; do
            if is_running "$one"; then waiting=yes; fi
        done
        [[ $waiting == yes ]] || break
        sleep 0.05
    done
    for one; do
        if is_running "$one"; then kill -KILL "$one" 2>/dev/null || true; fi
        wait "$one" 2>/dev/null || true
        unset "started[$one]"
    done
}

# children PID: sets list.
children() {
    local entry number
    list=()
    for entry in /proc/[0-9]*; do
        number=${entry#/proc/}
        if stat_fields "$number" && [[ ${fields[1]} == "$1" ]]; then list+=("$number"); fi
    done
}

# serving PID: sets list to those who do the work: the workers of a master, or the process itself.
serving() {
    local child
    children "$1"
    for child in "${list[@]}"; do track "$child" || true; done
    ((${#list[@]} > 0)) || list=("$1")
}

cleanup() {
    local status=$?
    trap - EXIT ERR
    set +e
    trap '' INT TERM HUP
    stop "${!started[@]}"
    unguard_services
    [[ -z ${work:-} ]] || rm -rf "$work"
    exit "$status"
}

# cpu_ns PID…: sets ns to the CPU time that the processes have used; false if one is gone.
cpu_ns() {
    local one task run
    ns=0
    for one; do
        is_running "$one" || return 1
        if [[ $clock == schedstat ]]; then
            for task in /proc/"$one"/task/*/schedstat; do
                { read -r run _ <"$task"; } 2>/dev/null || continue
                ns=$((ns + run))
            done
        else
            ns=$((ns + (fields[11] + fields[12]) * (1000000000 / ticks)))
        fi
    done
}

# memory_kib KEY PID…: sets kib to the sum of what /proc/PID/status says behind KEY: VmHWM is the peak
# of resident memory, VmRSS what it is now.
memory_kib() {
    local one key value wanted=$1:
    kib=0
    shift
    for one; do
        while read -r key value _; do
            if [[ $key == "$wanted" ]]; then kib=$((kib + value)); fi
        done 2>/dev/null <"/proc/$one/status" || true
    done
}

# --------------------------------------------------------------------------------------- network

# free_ports COUNT: sets ports to different ones that nobody uses, outside the range that the kernel
# gives to clients. Somebody may still be faster: whoever starts a server tries again.
free_ports() {
    local low=10000 high=32000 used port local_low
    read -r local_low _ </proc/sys/net/ipv4/ip_local_port_range
    if ((local_low > 12000 && local_low < high)); then high=$local_low; fi
    used=" $(awk 'FNR > 1 { n = split($2, part, ":"); print part[n] }' /proc/net/tcp* | tr '\n' ' ')"
    ports=()
    while ((${#ports[@]} < $1)); do
        port=$((low + (RANDOM * 32768 + RANDOM) % (high - low)))
        [[ $used != *" $(printf '%04X' "$port") "* ]] || continue
        used+="$(printf '%04X' "$port") "
        ports+=("$port")
    done
}

# fetch PORT PATH FILE: one GET; FILE gets the whole answer, head and content.
fetch() {
    # shellcheck disable=SC2016  # the inner shell expands these
    timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" &&
        printf "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" "$2" >&3 &&
        cat <&3' fetch "$1" "$2" >"$3" 2>/dev/null
}

# answers PORT PATH CONTENT: 200, and the content is that of the file CONTENT.
answers() {
    local status=''
    fetch "$1" "$2" "$work/answer" || return 1
    read -r _ status _ <"$work/answer" || true
    [[ $status == 200 ]] || return 1
    tail -c "$(stat -c %s "$3")" "$work/answer" | cmp -s - "$3"
}

# wait_ready PID PORT: false if it ended, or gave no right answer in 5 to 10 seconds.
wait_ready() {
    local end=$((SECONDS + 6))
    while ((SECONDS < end)); do
        is_running "$1" || return 1
        # It must be ours that answers: look again behind the answer.
        if answers "$2" /256 "$work/files/256"; then is_running "$1" && return 0; fi
        sleep 0.05
    done
    return 1
}

# -------------------------------------------------------------------------------------- programs

nginx_top() { # DIRECTORY
    cat <<CONF
daemon off;
worker_processes 1;
worker_rlimit_nofile $open_files;
pid $1/nginx.pid;
error_log $1/error.log crit;
events { worker_connections $((open_files / 2)); }
http {
    access_log off;
    client_body_temp_path $1/body;
    proxy_temp_path $1/proxy;
    fastcgi_temp_path $1/fastcgi;
    uwsgi_temp_path $1/uwsgi;
    scgi_temp_path $1/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
CONF
}

nginx_command() { # DIRECTORY: sets command
    command=(nginx -p "$1" -c "$1/nginx.conf")
    # Without it nginx opens the system's log before it reads where ours is.
    if [[ $(nginx -h 2>&1) == *'-e filename'* ]]; then command+=(-e "$1/start.log"); fi
}

configure_servers() { # DIRECTORY
    local port
    {
        nginx_top "$1"
        printf '    sendfile on;\n    tcp_nopush on;\n    open_file_cache max=16 inactive=1h;\n'
        printf '    open_file_cache_valid 1h;\n    default_type application/octet-stream;\n'
        for port in "${ports[@]}"; do
            cat <<CONF
    server {
        listen 127.0.0.1:$port backlog=4096;
        root $work/files;
        location = /healthcheck { default_type text/plain; return 200 "0\n0\n"; }
    }
CONF
        done
        printf '}\n'
    } >"$1/nginx.conf"
    nginx_command "$1"
}

# One built-in server, which takes content: nginx would need another program behind it.
configure_taking() { # DIRECTORY PORT
    command=("$binary" origin "127.0.0.1:$2" "$work/files" -q)
}

configure_nginx() { # DIRECTORY PORT
    local port
    {
        nginx_top "$1"
        printf '    upstream servers {\n'
        for port in "${server_ports[@]}"; do printf '        server 127.0.0.1:%s;\n' "$port"; done
        cat <<CONF
        keepalive 1024;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:$2 backlog=4096;
        location / {
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
            proxy_request_buffering off;
            client_max_body_size 0;
        }
    }
}
CONF
    } >"$1/nginx.conf"
    nginx_command "$1"
}

configure_haproxy() { # DIRECTORY PORT
    local port
    {
        cat <<CONF
global
    nbthread 1
    maxconn $((open_files / 2 - 200))
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 60s
    timeout http-request 30s
    http-reuse always
    option httpchk GET /healthcheck
listen balancer
    bind 127.0.0.1:$2
CONF
        for port in "${server_ports[@]}"; do
            printf '    server s%s 127.0.0.1:%s check inter 3s\n' "$port" "$port"
        done
    } >"$1/haproxy.cfg"
    command=(haproxy -db -f "$1/haproxy.cfg")
}

configure_bestguess() { # DIRECTORY PORT
    local port
    command=("$binary" "127.0.0.1:$2")
    for port in "${server_ports[@]}"; do command+=("127.0.0.1:$port"); done
    command+=(-N 1024 -R 1000000 -X 3 -q)
}

# start NAME COUNT CPU: sets pid and ports; or ends all, with what the program said.
start() {
    local name=$1 count=$2 cpu=$3 directory="$work/$1" command attempt
    mkdir -p "$directory"
    for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
        free_ports "$count"
        "configure_$name" "$directory" "${ports[0]}"
        launch "$directory/log" "$cpu" "${command[@]}"
        if wait_ready "$pid" "${ports[0]}"; then return 0; fi
        # A port taken meanwhile shows as an early end; one that hangs will hang again.
        if is_running "$pid"; then attempt=$ATTEMPTS; fi
        stop "$pid"
    done
    say "the last lines of $name:"
    tail -q -n 10 "$directory"/*log >&2 || true
    fail "$name did not deliver the content of its servers on 127.0.0.1:${ports[0]}"
}

# --------------------------------------------------------------------------------------- measure

# Results by "workload/program": one figure per round, or a sum.
declare -A pid_of=() port_of=() serving_of=() rates=() costs=() memory=()
declare -A refused=() wrong=() faults=() resting=()

# load PROGRAM SECONDS: one run of wrk. Sets requests (0 if none), rate and ns (CPU time; empty if
# the program ended), and adds what went wrong to that program's sums.
load() {
    local key="$workload/$1" before='' log="$work/wrk.log" connect read write timed status bad=0
    local -a serving_pids
    read -r -a serving_pids <<<"${serving_of[$1]}"
    if cpu_ns "${serving_pids[@]}"; then before=$ns; fi
    launch "$log" "$cpu_load" timeout -k 1 $(($2 + 20)) \
        wrk -t 1 -c "$connections" -d "${2}s" "${extra[@]}" "http://127.0.0.1:${port_of[$1]}/$file"
    local wrk_pid=$pid
    wait "$wrk_pid" || bad=1
    unset "started[$wrk_pid]"
    sleep 0.1 # the program sees that the clients are gone
    if [[ -n $before ]] && cpu_ns "${serving_pids[@]}"; then ns=$((ns - before)); else ns=''; fi

    read -r requests rate connect read write timed status <<<"$(awk '
        $2 == "requests" && $3 == "in" { requests = $1 }
        $1 == "Requests/sec:" { rate = $2 }
        /Socket errors:/ { gsub(",", ""); connect = $4; read = $6; write = $8; timed = $10 }
        /Non-2xx or 3xx responses:/ { status = $NF }
        END { print requests + 0, rate + 0, connect + 0, read + 0, write + 0, timed + 0, status + 0 }
    ' "$log")"
    refused[$key]=$((${refused[$key]:-0} + connect + read + write + timed))
    wrong[$key]=$((${wrong[$key]:-0} + status))
    if [[ -z $ns ]]; then
        faults[$key]='ended while running'
    elif ((bad != 0 || requests == 0)); then
        faults[$key]='no answers'
    fi
}

# start_programs WORKLOAD: starts them all, sees that they deliver, and loads each for a moment.
start_programs() {
    local name
    workload=$1
    describe "$workload"
    for name in "${PROGRAMS[@]}"; do
        start "$name" 1 "$cpu_program"
        pid_of[$name]=$pid
        port_of[$name]=${ports[0]}
        serving "$pid"
        serving_of[$name]=${list[*]}
        answers "${ports[0]}" "/$file" "$work/files/$file" || faults[$workload/$name]='wrong content'
        load "$name" "$WARM_UP_SECONDS"
    done
}

measure() { # WORKLOAD
    local name round index key
    start_programs "$1"
    for ((round = 0; round < rounds; round++)); do
        for index in "${!PROGRAMS[@]}"; do
            name=${PROGRAMS[(index + round) % ${#PROGRAMS[@]}]}
            key="$workload/$name"
            load "$name" "$seconds"
            rates[$key]+="$rate "
            if [[ -n $ns ]] && ((requests > 0)); then
                costs[$key]+="$(awk -v ns="$ns" -v n="$requests" 'BEGIN { printf "%.4f", ns / n / 1000 }') "
            fi
        done
        say "$workload: round $((round + 1)) of $rounds"
    done
    for name in "${PROGRAMS[@]}"; do
        read -r -a list <<<"${serving_of[$name]}"
        memory_kib VmHWM "${list[@]}"
        memory[$workload/$name]=$kib
    done
    stop_programs
}

# What a master had forked meanwhile is its own to end.
stop_programs() {
    local name
    local -a all=()
    for name in "${PROGRAMS[@]}"; do
        read -r -a list <<<"${serving_of[$name]} ${pid_of[$name]}"
        all+=("${list[@]}")
    done
    stop "${all[@]}"
}

# What resting connections hold: resident memory before them and with them.
measure_idle() {
    local name key wrk_pid
    local -a serving_pids
    start_programs keep64
    describe idle
    for name in "${PROGRAMS[@]}"; do
        key="idle/$name"
        read -r -a serving_pids <<<"${serving_of[$name]}"
        memory_kib VmRSS "${serving_pids[@]}"
        resting[$key]=$kib
        launch "$work/wrk.log" "$cpu_load" timeout -k 1 30 \
            wrk -t 1 -c "$connections" -d 5s "${extra[@]}" "http://127.0.0.1:${port_of[$name]}/$file"
        wrk_pid=$pid
        sleep 4
        memory_kib VmRSS "${serving_pids[@]}"
        memory[$key]=$kib
        wait "$wrk_pid" || faults[$key]='no answers'
        unset "started[$wrk_pid]"
        awk -v n="$connections" '$2 == "requests" && $3 == "in" && $1 >= n { found = 1 } END { exit !found }' \
            "$work/wrk.log" || faults[$key]='not every connection had an answer'
        say "idle: $name"
    done
    stop_programs
}

# ---------------------------------------------------------------------------------------- report

# middle VALUES: prints median, least and greatest; nothing if there are none.
middle() {
    # shellcheck disable=SC2086  # a list of numbers
    printf '%s\n' $1 | sort -n | awk 'NF { v[++n] = $1 }
        END { if (n) print (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2, v[1], v[n] }'
}

# errors KEY: sets text to what went wrong, empty if nothing did.
errors() {
    text=''
    ((${refused[$1]:-0} == 0)) || text+="${refused[$1]} socket, "
    ((${wrong[$1]:-0} == 0)) || text+="${wrong[$1]} not 2xx, "
    [[ -z ${faults[$1]:-} ]] || text+="${faults[$1]}, "
    text=${text%, }
}

row() { printf '| %-9s | %-9s | %10s | %10s | %18s | %12s | %8s | %-6s |\n' "$@"; }

table() {
    local name key best middle_cost low high rate_middle cost range ratio marked
    row workload program requests/s CPU_us/req range 'of best peer' peak_MiB errors | tr _ ' '
    echo '|-----------|-----------|-----------:|-----------:|-------------------:|-------------:|---------:|--------|'
    for workload in "${workloads[@]}"; do
        [[ $workload != idle ]] || continue
        # The best peer is the cheapest one that served without errors.
        best=''
        for name in nginx haproxy; do
            errors "$workload/$name"
            [[ -z $text ]] || continue
            read -r middle_cost low high <<<"$(middle "${costs[$workload/$name]:-}")"
            [[ -n $middle_cost ]] || continue
            best=$(awk -v a="$middle_cost" -v b="$best" 'BEGIN { print b == "" || a < b + 0 ? a : b }')
        done
        for name in "${PROGRAMS[@]}"; do
            key="$workload/$name"
            read -r rate_middle _ <<<"$(middle "${rates[$key]:-}")"
            read -r middle_cost low high <<<"$(middle "${costs[$key]:-}")"
            cost=- range=- ratio=- marked=0
            if [[ -n $middle_cost ]]; then
                cost=$(printf '%.2f' "$middle_cost")
                range=$(printf '%.2f to %.2f' "$low" "$high")
                [[ -z $best ]] || ratio=$(awk -v a="$middle_cost" -v b="$best" 'BEGIN { printf "%.2f", a / b }')
            fi
            errors "$key"
            if [[ -n $text ]]; then
                marked="**ERRORS: $text**"
                [[ $name != bestguess ]] || failed=yes
            fi
            row "$workload" "$name" "$(printf '%.0f' "${rate_middle:-0}")" "$cost" "$range" "$ratio" \
                "$(awk -v k="${memory[$key]:-0}" 'BEGIN { printf (k ? "%.1f" : "-"), k / 1024 }')" "$marked"
        done
    done
}

table_idle() {
    local name key
    printf '| program   | MiB at rest | MiB with %s idle | bytes per idle client | errors |\n' "$IDLE_CLIENTS"
    printf '|-----------|------------:|-------------------:|----------------------:|--------|\n'
    for name in "${PROGRAMS[@]}"; do
        key="idle/$name"
        errors "$key"
        [[ -z $text || $name != bestguess ]] || failed=yes
        awk -v name="$name" -v a="${resting[$key]}" -v b="${memory[$key]}" -v n="$IDLE_CLIENTS" -v text="${text:-0}" \
            'BEGIN { printf "| %-9s | %11.1f | %18.1f | %21.0f | %-6s |\n", name, a / 1024, b / 1024, (b - a) * 1024 / n, text }'
    done
}

header_line() {
    local model version_bestguess version_nginx version_haproxy cpus
    model=$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    cpus=$(nproc --all)
    version_bestguess=$(timeout 5 "$binary" -V 2>/dev/null </dev/null | awk 'NR == 1 { print $NF }') || true
    version_nginx=$(nginx -v 2>&1 | awk -F / 'NR == 1 { print $2 }') || true
    version_haproxy=$(haproxy -v | awk 'NR == 1 { print $3 }') || true
    cat <<TEXT
Linux $(uname -r), $cpus x ${model:-$(uname -m)}; bestguess ${version_bestguess:-?}, nginx ${version_nginx:-?}, HAProxy ${version_haproxy:-?}; $(date -u '+%Y-%m-%d %H:%M UTC'); layout $layout: $layout_text.

TEXT
}

footer() {
    cat <<TEXT

Medians over interleaved runs ($rounds of $seconds s). CPU us/req: CPU time of the program per request,
from $clock_text; "of best peer": that, divided by the least of nginx and HAProxy; less is better,
and differences below 5 to 10 % are noise. Peak MiB: greatest resident memory of the serving process in
that workload. Each program has one thread, and $SERVERS servers behind it (in servers64 $SERVERS_MANY) over kept-alive
connections: nginx, and for post1m the built-in one.
TEXT
}

# Sets the CPUs of wrk, the program and the servers.
choose_layout() {
    local allowed first last
    allowed=$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status)
    first=${allowed%%[,-]*}
    last=${allowed##*[,-]}
    if [[ $layout != free ]] && ! command -v taskset >/dev/null; then
        say "note: there is no taskset, so the kernel places the processes (layout free)"
        layout=free
    fi
    if [[ $layout == two && $first == "$last" ]]; then
        say "note: only one CPU is allowed here (layout one)"
        layout=one
    fi
    case $layout in
    one)
        cpu_load=$last cpu_program=$last cpu_servers=$last
        layout_text="wrk, the program and the servers share CPU $last, so requests/s counts the work of all three" ;;
    two)
        cpu_load=$first cpu_program=$last cpu_servers=$first
        layout_text="the program alone on CPU $last, wrk and the servers on CPU $first, whose limit bounds requests/s" ;;
    free)
        cpu_load='' cpu_program='' cpu_servers=''
        layout_text="no process is tied to a CPU, so figures vary more" ;;
    esac
}

choose_clock() {
    local run=0
    if [[ -r /proc/self/schedstat ]]; then read -r run _ </proc/self/schedstat; fi
    if ((run > 0)); then
        clock=schedstat clock_text='the scheduler (ns)'
    else
        ticks=$(getconf CLK_TCK)
        clock=stat clock_text="utime and stime, which are coarse ($ticks per second)"
    fi
}

main() {
    parse_arguments "$@"
    trap cleanup EXIT
    trap 'say "wrk.sh: unexpected failure in line $LINENO"' ERR
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/bestguess-wrk.XXXXXX")
    chmod 755 "$work" # nginx's workers are another user when root starts it

    install_tools
    find_binary
    raise_open_files
    choose_layout
    choose_clock

    mkdir "$work/files"
    head -c 256 /dev/urandom >"$work/files/256"
    head -c 1024 /dev/urandom >"$work/files/1k"
    head -c 65536 /dev/urandom >"$work/files/64k"
    head -c 1048576 /dev/urandom >"$work/files/1m"
    say "about $((${#workloads[@]} * (${#PROGRAMS[@]} * (rounds * seconds + WARM_UP_SECONDS + rounds / 4 + 1)))) s to go"

    write_scripts

    start servers "$SERVERS_MANY" "$cpu_servers"
    files_ports=("${ports[@]}")
    serving "$pid"
    taking_ports=()
    local one
    for ((one = 0; one < SERVERS; one++)); do
        start taking 1 "$cpu_servers"
        taking_ports+=("${ports[0]}")
    done

    local has_costs=no has_idle=no
    for one in "${workloads[@]}"; do
        if [[ $one == idle ]]; then
            measure_idle
            has_idle=yes
        else
            measure "$one"
            has_costs=yes
        fi
    done

    failed=no
    header_line
    if [[ $has_costs == yes ]]; then
        table
        footer
    fi
    if [[ $has_idle == yes ]]; then
        echo
        table_idle
    fi
    [[ $failed == no ]] || fail "bestguess had errors"
}

main "$@"
