"""The command line: what it accepts, what it refuses and how, `-t`, `demo`, the access log."""

import os
import re
import signal
import socket
import urllib.request

from harness import Case, eventually
from wire import HOST, reply

URL = re.compile(r"http://[\w.:\[\]-]+:\d+/?")


class CommandLine(Case):
    def outcome(self, *arguments, environment=None):
        """The exit code of a run that ends by itself, and the lines of both outputs."""
        program = self.program(*arguments, environment=environment)
        code = program.wait()
        program.stop()
        return code, program.out.lines, program.err.lines

    def assert_usage_error(self, *arguments, names, environment=None):
        code, _, err = self.outcome(*arguments, environment=environment)
        self.assertEqual((code, len(err)), (2, 1), err)
        self.assertIn(names, err[0])

    def test_wrong_command_lines_name_the_argument(self):
        for arguments, names in [
            (["8080", "-N", "many", "9001"], "many"),
            (["8080", "-N", "0", "9001"], "0"),
            (["8080", "9001", "-X", "soon"], "soon"),
            (["8080", "9001", "--check-timeout", "5 parsecs"], "5 parsecs"),
            (["8080", "9001", "--policy", "best"], "best"),
            (["8080", "9001", "--no-such-option"], "--no-such-option"),
            (["8080", "9001", "-R"], "-R"),
            (["8080", "9001,weight=heavy"], "heavy"),
            (["8080", "127.0.0.1:99999"], "99999"),
            (["0.0.0.0:port", "9001"], "port"),
        ]:
            with self.subTest(arguments):
                self.assert_usage_error(*arguments, names=names)

    def test_a_missing_server_is_a_usage_error(self):
        for arguments in ([], [f"{HOST}:0"]):
            code, _, err = self.outcome(*arguments)
            self.assertEqual(code, 2)
            self.assertTrue(err)

    def test_a_wrong_environment_twin_is_named(self):
        self.assert_usage_error(
            *(f"{HOST}:0", "9001"), names="BESTGUESS_POLICY", environment={"BESTGUESS_POLICY": "worst"}
        )

    def test_an_environment_twin_is_taken(self):
        balancer = self.balancer([self.peer(listening=False)], environment={"BESTGUESS_DOWN_STATUS": "503"})
        self.assertEqual(self.get(balancer).status, 503)

    def test_an_option_wins_over_its_environment_twin(self):
        balancer = self.balancer(
            [self.peer(listening=False)], "--down-status", "500", environment={"BESTGUESS_DOWN_STATUS": "503"}
        )
        self.assertEqual(self.get(balancer).status, 500)

    def test_options_and_servers_mix_in_any_order(self):
        peers = [self.peer(), self.peer()]
        arguments = ["-N", "8", peers[0].address, "-R", "7", peers[1].address, "--policy=round-robin"]
        balancer = self.balancer([], *arguments)
        for _ in range(4):
            self.assertEqual(self.get(balancer).status, 200)
        self.assertEqual([len(peer.targets()) for peer in peers], [2, 2])

    def test_help_and_version_succeed(self):
        code, out, _ = self.outcome("--help")
        self.assertEqual(code, 0)
        self.assertTrue(any("--parallel" in line for line in out))
        code, out, _ = self.outcome("-V")
        self.assertEqual(code, 0)
        self.assertRegex(out[0], r"bestguess \d+\.\d+\.\d+")

    def test_a_port_in_use_is_exit_1(self):
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, _, err = self.outcome(f"{HOST}:{port}", "9001")
            self.assertEqual(code, 1)
            self.assertIn(str(port), " ".join(err))


class SelfTest(Case):
    def outcome(self, *peers, options=()):
        program = self.program("-t", f"{HOST}:0", *[peer.address for peer in peers], *options)
        code = program.wait()
        program.stop()
        return code, program.out.lines

    def row(self, lines, peer):
        rows = [line for line in lines if re.search(re.escape(peer.address) + r"(?!\d)", line)]
        self.assertEqual(len(rows), 1, lines)
        return rows[0]

    def test_good_servers_make_a_table_and_exit_0(self):
        peers = [self.peer(report=(7, 12345)), self.peer(report=(0, 6789))]
        code, lines = self.outcome(*peers)
        self.assertEqual(code, 0, lines)
        self.assertIn("12345", self.row(lines, peers[0]))
        self.assertIn("6789", self.row(lines, peers[1]))
        self.assertEqual([peer.targets() for peer in peers], [[], []])

    def test_a_server_that_is_down_makes_exit_1_and_is_named(self):
        good, dead = self.peer(), self.peer(listening=False)
        code, lines = self.outcome(good, dead)
        self.assertEqual(code, 1, lines)
        self.assertIn("refused", self.row(lines, dead))
        self.assertNotIn("refused", self.row(lines, good))

    def test_a_server_without_a_report_makes_exit_1(self):
        peer = self.peer(health=lambda _: reply(404))
        code, lines = self.outcome(peer)
        self.assertEqual(code, 1, lines)
        self.assertIn("404", self.row(lines, peer))


class Demo(Case):
    def test_the_printed_address_serves_a_page(self):
        program = self.program("demo")
        found = eventually(lambda: program.out.match(URL) or program.err.match(URL), "the demo prints its address")
        for _ in range(6):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(found.group(0), timeout=30) as response:
                self.assertEqual(response.status, 200)
                self.assertTrue(response.read())
        program.signal(signal.SIGTERM)
        self.assertEqual(program.wait(), 0)


class AccessLog(Case):
    def test_each_request_has_a_line_in_the_file(self):
        path = os.path.join(self.directory(), "access.log")
        balancer = self.balancer([self.peer(lambda _: reply(234, b"hello"))], "--access-log", path)
        for index in range(5):
            self.assertEqual(self.get(balancer, f"/logged/{index}").status, 234)

        def lines():
            with open(path, encoding="utf-8") as log:
                return [line for line in log if "/logged/" in line]

        eventually(lambda: len(lines()) == 5, "five lines are in the access log")
        for index, line in enumerate(lines()):
            self.assertIn(f"/logged/{index}", line)
            self.assertRegex(line, r"\b234\b")

    def test_a_dash_means_standard_output(self):
        balancer = self.balancer([self.peer()], "--access-log", "-")
        self.assertEqual(self.get(balancer, "/logged").status, 200)
        eventually(lambda: balancer.out.match("/logged"), "the line is on standard output")

    def test_a_log_whose_reader_has_gone_harms_nothing(self):
        peer = self.peer()
        balancer = self.balancer([peer], "-X", "0.1", "-v", "--access-log", "-")
        for descriptor in (balancer.out.pipe, balancer.err.pipe):
            # The read ends go away under the threads that read them.
            os.dup2(os.open(os.devnull, os.O_RDONLY), descriptor.fileno())
        for _ in range(5):
            peer.refuse()
            self.get(balancer)
            peer.listen()
            eventually(lambda: self.get(balancer).status == 200, "it serves")
