"""Completions and the manual page, read by the programs that they are for."""

import os
import re
import subprocess
import tempfile

from harness import Case, binary


class Shells(Case):
    def text(self, *arguments):
        done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=20, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def run_on(self, command, text):
        """A program with `text` in a file behind its arguments; what it prints on either output."""
        with tempfile.NamedTemporaryFile("w", suffix=".text") as file:
            file.write(text)
            file.flush()
            done = subprocess.run(
                [*command, file.name], capture_output=True, text=True, timeout=60,
                env={**os.environ, "HOME": tempfile.gettempdir()},
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def test_each_shell_reads_its_completions(self):
        for shell in ("bash", "zsh", "fish"):
            with self.subTest(shell):
                self.assertEqual(self.run_on([shell, "-n"], self.text("completions", shell)), ("", ""))

    def test_bash_completes(self):
        offer = (
            "source <(\"$BIN\" completions bash); COMP_WORDS=(bestguess 8080 --policy r); COMP_CWORD=3;"
            " _bestguess; echo \"${COMPREPLY[*]}\"; complete -p bestguess"
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", offer], capture_output=True, text=True, timeout=20,
            env={**os.environ, "BIN": binary()},
        )
        self.assertEqual((done.stdout.split("\n")[0], done.stderr), ("round-robin random", ""))
        self.assertIn("-F _bestguess bestguess", done.stdout)

    def test_fish_completes(self):
        offer = f"source ({binary()} completions fish | psub); complete -C 'bestguess 8080 --policy r'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", offer], capture_output=True, text=True, timeout=60,
            env={**os.environ, "HOME": tempfile.mkdtemp()},
        )
        words = [line.split("\t")[0] for line in done.stdout.split("\n") if line]
        self.assertEqual(sorted(words), ["random", "round-robin"], done.stderr)

    def test_zsh_takes_the_function(self):
        offer = "autoload -U compinit; compinit -D -u; source /dev/stdin; whence -w _bestguess; echo $_comps[bestguess]"
        done = subprocess.run(
            ["zsh", "-f", "-c", offer], input=self.text("completions", "zsh"),
            capture_output=True, text=True, timeout=60,
        )
        self.assertEqual((done.stdout, done.stderr), ("_bestguess: function\n_bestguess\n", ""))

    def test_the_manual_page_has_no_mistake_in_it(self):
        out, err = self.run_on(["groff", "-man", "-Tutf8", "-ww"], self.text("man"))
        self.assertEqual(err, "")
        # Bold is a letter, a step back, and the letter again.
        out = re.sub(".\b", "", out)
        for word in ("NAME", "--servers-file", "EXIT STATUS"):
            self.assertIn(word, out.replace("\N{HYPHEN}", "-").replace("\N{MINUS SIGN}", "-"))
