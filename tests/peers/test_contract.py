"""The admin listener against the OpenAPI document that it serves: every operation is asked with values
that are described and with hostile ones, and every answer has to be one that is described."""

import json
import random
import re
import urllib.parse

from harness import HOST, Case, eventually
from wire import Client

CASES_PER_OPERATION = 60
LONG = "x" * 3000
# What may stand in a path or a query, percent-encoded or raw as a request line bears it.
HOSTILE_PARTS = (
    "nobody",
    "%00",
    "%ff%fe",
    "%",
    "%zz",
    "..%2f..%2fetc",
    "a%20b",
    "%F0%9F%98%80",
    LONG,
    "127.0.0.1:9001%0d%0aX:%20y",
    "'\"<script>",
    "-1",
    "0",
    "1e9",
    "99999999999999999999",
    "null",
    "[]",
)
HOSTILE_CONTENTS = (
    b"",
    b" ",
    b"\0",
    b"\xff\xfe\x80",
    b"NaN",
    b"-1",
    b"1e400",
    b"0x10",
    b"null",
    b'{"name": ["127.0.0.1:9001"]}',
    b"[" * 2000 + b"]" * 2000,
    b"9001\n9002",
    b"9001-9999",
    b"127.0.0.1:99999",
    b"example.com:80",
    b"unix:",
    b"9001,weight=0",
    b"9001,weight=2,weight=3",
    b"9001,max=0,backup,backup",
    b"a" * 4096,
    b"a" * 4097,
)


class Schema:
    """As much of a schema's meaning as the document uses."""

    def __init__(self, document):
        self.document = document

    def resolved(self, node):
        while "$ref" in node:
            found = self.document
            for word in node["$ref"].removeprefix("#/").split("/"):
                found = found[word]
            node = found
        return node

    def wrong(self, value, schema, place="answer"):
        """What is wrong with `value`; nothing if it is as described."""
        schema = self.resolved(schema)
        if value is None:
            return None if schema.get("nullable") else f"{place} is null"
        for part in schema.get("allOf", ()):
            if found := self.wrong(value, part, place):
                return found
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        kind = kinds.get(schema.get("type"), object)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
            return f"{place} is {value!r}, not {schema['type']}"
        if "enum" in schema and value not in schema["enum"]:
            return f"{place} is {value!r}"
        if "minimum" in schema and value < schema["minimum"]:
            return f"{place} is {value!r}"
        if isinstance(value, list):
            for item in value:
                if found := self.wrong(item, schema.get("items", {}), place + "[]"):
                    return found
        if isinstance(value, dict):
            known = schema.get("properties", {})
            for name in schema.get("required", ()):
                if name not in value:
                    return f"{place} has no {name}"
            for name, item in value.items():
                if name not in known and schema.get("additionalProperties", True) is False:
                    return f"{place} has {name}"
                if found := self.wrong(item, known.get(name, {}), f"{place}.{name}"):
                    return found
        return None


class Contract(Case):
    def setUp(self):
        servers = [self.peer(name="a"), self.peer(name="b")]
        balancer = self.balancer(servers, "--admin", f"{HOST}:0")
        found = eventually(lambda: balancer.err.match(r"admin at 127\.0\.0\.1:(\d+)"), "the log names the admin listener")
        self.balancer_there = balancer
        self.port, self.address = int(found.group(1)), f"{HOST}:{found.group(1)}"
        self.names = [server.address for server in servers]
        for server in servers:
            balancer.await_change(server, "valid")
        # So that there is something to tell of.
        for _ in range(5):
            self.assertEqual(self.get(balancer, "/x").status, 200)
        self.document = json.loads(self.asked("GET", "/openapi.json").content)
        self.schema = Schema(self.document)

    def asked(self, method, target, content=None, fields=()):
        with Client(self) as client:
            client.request(method, target, *fields, content=content)
            return client.response(method)

    def part(self, chance, schema, name):
        if chance.random() < 0.5:
            return chance.choice(HOSTILE_PARTS)
        if name == "name":
            there = json.loads(self.asked("GET", "/servers").content)
            return urllib.parse.quote(chance.choice([server["name"] for server in there]), safe="")
        if "enum" in schema:
            return chance.choice(schema["enum"])
        return str(chance.randint(schema.get("minimum", 0), schema.get("maximum", 100)))

    def content(self, chance, operation, path):
        if chance.random() < 0.6:
            return chance.choice(HOSTILE_CONTENTS)
        if "requestBody" not in operation:
            return chance.choice((None, b""))
        number = chance.randint(1, 60000)
        return f"{number / 100}".encode() if path.endswith("/weight") else f"127.0.0.9:{number}".encode()

    def case(self, chance, path, method, operation):
        """One request of an operation: method, target, content, fields."""
        parameters = [*self.document["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
        query = []
        for parameter in map(self.schema.resolved, parameters):
            value = self.part(chance, parameter["schema"], parameter["name"])
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", value)
            elif chance.random() < 0.7:
                # Twice at times: which of them counts is not described, but one has to.
                query += [f"{parameter['name']}={value}"] * chance.choice((1, 1, 2))
        if chance.random() < 0.1:
            query.append(f"unknown={chance.choice(HOSTILE_PARTS)}")
        fields = []
        if chance.random() < 0.2:
            fields.append(chance.choice(("Content-Type: application/json", "Accept: */*", "Origin: null", "X-Long: " + LONG)))
        return path + ("?" + "&".join(query) if query else ""), fields

    def judge(self, response, operation, what):
        self.assertLess(response.status, 500, what)
        described = operation["responses"]
        status = str(response.status)
        found = described.get(status) or described.get(status[0] + "XX")
        self.assertIsNotNone(found, f"{what} came to {status}, which is not described")
        content = self.schema.resolved(found).get("content", {})
        kind = (response.one("Content-Type") or "").split(";")[0]
        self.assertIn(kind, [name.split(";")[0] for name in content], what)
        if kind == "application/json":
            schema = next(value for name, value in content.items() if name.startswith(kind)).get("schema", {})
            self.assertIsNone(self.schema.wrong(json.loads(response.content), schema), what)
        elif response.status >= 400:
            self.assertRegex(response.content.decode(), r"\A[^\n]+\n\Z", what)

    def test_every_operation_answers_as_it_is_described(self):
        chance = random.Random(7)
        counts = {}
        for _ in range(CASES_PER_OPERATION):
            for path, operations in self.document["paths"].items():
                for method, operation in operations.items():
                    # Events have no end; the tests of events read them.
                    if method == "parameters" or path == "/events":
                        continue
                    target, fields = self.case(chance, path, method, operation)
                    content = None if method == "get" else self.content(chance, operation, path)
                    if not re.fullmatch(r"[!-~]+", target):
                        target = urllib.parse.quote(target, safe="/?&=%")
                    what = f"{method} {target[:200]} {fields} {content[:100] if content else content}"
                    response = self.asked(method.upper(), target, content, fields)
                    self.judge(response, operation, what)
                    seen = counts.setdefault((method, path), set())
                    seen.add(response.status // 100)
        # What is described as good was reached, and so was what is refused where there is a choice.
        self.assertEqual([name for name, seen in counts.items() if 2 not in seen], [])
        refusing = [name for name, seen in counts.items() if 4 in seen]
        self.assertGreaterEqual(len(refusing), 8, counts)
        print(f"{CASES_PER_OPERATION * len(counts)} requests of {len(counts)} operations, answered as described")
        # Whoever asks for something served is served.
        self.asked("POST", "/servers", self.names[0].encode())
        self.assertEqual(self.asked("POST", f"/servers/{self.names[0]}/enable").status, 200)
        eventually(lambda: self.get(self.balancer_there, "/after").status == 200, "requests are served again")

    def test_no_other_method_is_taken(self):
        for path, operations in self.document["paths"].items():
            target = path.replace("{name}", urllib.parse.quote(self.names[0], safe=""))
            for method in ("PUT", "PATCH", "DELETE", "POST", "OPTIONS", "GET"):
                if method.lower() in operations:
                    continue
                response = self.asked(method, target)
                self.assertEqual(response.status, 405, f"{method} {target}")
                allowed = {word.strip().lower() for word in response.one("Allow").split(",")} - {"head"}
                self.assertEqual(allowed, set(operations) - {"parameters"}, f"{method} {target}")
