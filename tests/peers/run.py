"""Runs the suite: one line per test, then what failed and why, then `N passed, N failed`.

Use `run.sh`, which brings what is missing and names the binary.
"""

import faulthandler
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
LOG_LINES_SHOWN = 40


class Result(unittest.TestResult):
    """Prints each verdict as it falls. A skipped test counts as failed: nothing is left out silently."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.bad = {}
        self.begun = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        name = test.id()
        if name not in self.bad:
            self.passed += 1
        verdict = "FAIL" if name in self.bad else "ok  "
        print(f"{verdict} {name}  ({time.monotonic() - self.begun:.1f} s)", flush=True)

    def addError(self, test, err):
        super().addError(test, err)
        self._bad(test, self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._bad(test, self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._bad(test, f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._bad(test, f"skipped: {reason}")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._bad(test, "succeeded, which was not expected")

    def _bad(self, test, text):
        logs = []
        for program in getattr(test, "programs", []):
            logs.append(f"--- {program.title}")
            logs.extend(program.err.lines[-LOG_LINES_SHOWN:])
        self.bad.setdefault(test.id(), []).append("\n".join([text, *logs]))


def tests_of(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from tests_of(entry)
        else:
            yield entry


def main():
    words = sys.argv[1:]
    faulthandler.enable()
    sys.path.insert(0, HERE)
    if not os.access(os.environ.get("BESTGUESS_BIN", ""), os.X_OK):
        print("BESTGUESS_BIN must name the binary to test: use run.sh", file=sys.stderr)
        return 1

    every = list(tests_of(unittest.TestLoader().discover(HERE, pattern="test_*.py", top_level_dir=HERE)))
    chosen = [test for test in every if not words or any(word in test.id() for word in words)]
    if os.environ.get("BESTGUESS_TESTS_QUICK"):
        big = [test for test in chosen if test.id().startswith("test_big.")]
        chosen = [test for test in chosen if test not in big]
        print(f"left out, as BESTGUESS_TESTS_QUICK is set: {len(big)} big tests")
    if not chosen:
        print(f"no test has a name like {' or '.join(words)}", file=sys.stderr)
        return 1

    result = Result()
    unittest.TestSuite(chosen).run(result)
    for name, texts in result.bad.items():
        for text in texts:
            print(f"\n==== {name}\n{text}")
    print(f"\n{result.passed} passed, {len(result.bad)} failed", flush=True)
    return 1 if result.bad else 0


if __name__ == "__main__":
    sys.exit(main())
