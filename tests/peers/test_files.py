"""The original test: files of random base64 through curl, in parallel, compared byte for byte."""

import base64
import os
import random
import signal
import subprocess
import time

from harness import REASON, Case, bare_environment, curl, curl_command, eventually, spare_port

KIB = 1024
SIZES = [1 * KIB, 3 * KIB + 1, 16 * KIB, 64 * KIB - 1, 200 * KIB, 512 * KIB, 1024 * KIB + 7, 2048 * KIB]
# What a killed server had not yet given to its system is lost, and its client must be cut. Contents
# that a server writes in one piece are not: either no byte of them came, or all did.
SMALL_SIZES = [512, 1 * KIB, 1500, 2 * KIB, 3 * KIB, 4 * KIB, 6 * KIB, 8 * KIB]
TIMES = 8


def write_files(directory, sizes):
    """Files of random base64: target → content."""
    contents = {}
    for index, size in enumerate(sizes):
        content = base64.b64encode(os.urandom(size))[:size]
        with open(os.path.join(directory, f"file{index}"), "wb") as file:
            file.write(content)
        contents[f"/file{index}"] = content
    return contents


class Files(Case):
    def setUp(self):
        self.source = self.directory()
        self.results = self.directory()
        self.contents = write_files(self.source, SIZES)
        self.origins = [self.origin(self.source, name=name) for name in "abc"]

    def wanted(self, balancer, times, label=""):
        """One configuration for curl that gets each file `times` times, and (result, content) of each."""
        lines, results = [], []
        for turn in range(times):
            for target, content in self.contents.items():
                path = os.path.join(self.results, f"{label}-{turn}-{target[1:]}")
                results.append((path, content))
                lines += [f'url = "http://{balancer.address}{target}"', f'output = "{path}"']
        config = os.path.join(self.results, f"{label}.config")
        with open(config, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        return config, results

    def compare(self, results):
        for path, content in results:
            with open(path, "rb") as file:
                same = file.read() == content
            self.assertTrue(same, f"{os.path.basename(path)} differs from its source of {len(content)} bytes")
            os.remove(path)

    def get_all(self, balancer, times=TIMES):
        """Each file `times` times, all at once by one curl."""
        config, results = self.wanted(balancer, times, "one")
        run = curl("--fail", "--parallel", "--parallel-immediate", "--parallel-max", str(len(results)), "-K", config)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.compare(results)

    def test_eight_files_eight_times_in_parallel_arrive_whole(self):
        balancer = self.balancer(self.origins, "-N", "8")
        self.get_all(balancer)
        self.get_all(balancer)

    def test_several_curls_at_once_get_whole_files(self):
        balancer = self.balancer(self.origins, "-N", "8")
        runs, results = [], []
        for index in range(TIMES):
            config, wanted = self.wanted(balancer, 1, f"process{index}")
            results += wanted
            run = subprocess.Popen(
                curl_command("--fail", "--parallel", "-K", config),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=bare_environment(),
            )
            self.addCleanup(run.kill)
            runs.append(run)
        for run in runs:
            said, _ = run.communicate(timeout=150)
            self.assertEqual(run.returncode, 0, said)
        self.compare(results)

    def test_one_pair_at_a_time_serves_all(self):
        self.get_all(self.balancer(self.origins, "-N", "1"))

    def test_a_check_after_every_request_disturbs_none(self):
        self.get_all(self.balancer(self.origins, "-N", "8", "-R", "1"))

    def test_five_rounds_a_second_disturb_none(self):
        balancer = self.balancer(self.origins, "-N", "8", "-X", "0.2")
        for _ in range(3):
            self.get_all(balancer)

    def test_a_file_put_through_the_balancer_comes_back(self):
        balancer = self.balancer(self.origins, "-N", "8")
        content = random.Random(1).randbytes(300 * KIB)
        source = os.path.join(self.results, "put")
        with open(source, "wb") as file:
            file.write(content)
        run = curl("--fail", "-T", source, f"http://{balancer.address}/new", "-o", os.devnull)
        self.assertEqual((run.returncode, run.stderr), (0, b""))
        run = curl("--fail", f"http://{balancer.address}/new")
        self.assertEqual((run.returncode, run.stdout == content), (0, True))
        with open(os.path.join(self.source, "new"), "rb") as file:
            self.assertEqual(file.read() == content, True)


class Killed(Case):
    def test_a_killed_server_costs_no_get_and_comes_back_by_itself(self):
        source = self.directory()
        contents = write_files(source, SMALL_SIZES)
        port = spare_port()
        stays = [self.origin(source, name="a"), self.origin(source, name="c")]
        killed = self.origin(source, name="b", port=port)
        balancer = self.balancer([stays[0], killed, stays[1]], "-N", "8", "-X", "0.5")
        traffic = self.traffic(balancer, contents, threads=6)
        traffic.await_server("b", since=0)

        for _ in range(2):
            mark = balancer.mark()
            killed.stop()
            line = balancer.await_change(killed, "invalid", mark)
            self.assertRegex(line, REASON)
            traffic.await_more(200)

            mark = balancer.mark()
            killed = self.revived(source, port)
            balancer.await_change(killed, "valid", mark)
            traffic.await_server("b", since=time.monotonic())
            traffic.await_more(200)
        self.assert_faultless(traffic.stop())

    def revived(self, source, port):
        """The server again on its port, as soon as the system gives the port back."""

        def attempt():
            try:
                return self.origin(source, name="b", port=port)
            except AssertionError:
                return None

        return eventually(attempt, "the origin can be started again on its port")


class Stopped(Case):
    def test_a_stopped_server_is_found_out_and_returns_when_it_continues(self):
        connect, response, check, every = 1.0, 2.0, 1.0, 0.5
        slack = 2.0
        source = self.directory()
        contents = write_files(source, SMALL_SIZES)
        origins = [self.origin(source, name=name) for name in "abc"]
        stopped = origins[1]
        balancer = self.balancer(
            origins,
            *("--connect-timeout", f"{connect:.0f}s", "--response-timeout", f"{response:.0f}s"),
            *("--check-timeout", f"{check:.0f}s", "-X", str(every)),
        )
        traffic = self.traffic(balancer, contents, threads=6)
        traffic.await_server("b", since=0)

        mark, stopped_at = balancer.mark(), time.monotonic()
        stopped.signal(signal.SIGSTOP)
        balancer.await_change(stopped, "invalid", mark)
        invalid_at = time.monotonic()
        self.assertLess(invalid_at - stopped_at, check + every + slack)
        traffic.await_more(200)
        time.sleep(response)  # so that whatever waited for the stopped server has had its timeout

        mark, continued_at = balancer.mark(), time.monotonic()
        stopped.signal(signal.SIGCONT)
        balancer.await_change(stopped, "valid", mark)
        traffic.await_server("b", since=time.monotonic())

        sent = traffic.stop()
        self.assertEqual([one for one in sent if one.status not in (200, 504)], [])
        self.assertLess(max(one.ended - one.started for one in sent), connect + response + slack)
        self.assert_faultless([one for one in sent if one.ended < stopped_at or one.started > invalid_at])
        meanwhile = [one for one in sent if invalid_at < one.started and one.ended < continued_at]
        self.assertEqual([one for one in meanwhile if one.server == "b"], [])
