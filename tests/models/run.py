#!/usr/bin/env python3
"""Searches the models of this folder with spin: each as it is, in which nothing may be found, and with each of
its mutations, in which something must be.

  run.py             every model
  run.py --full      longer: see FULL in each model
  run.py arena       one model
  run.py arena NO_LOCK   one mutation, with the steps that lead to what it breaks
"""
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

# Model -> what to leave out of, or change in, the steps; see README.md.
MUTATIONS = {
    "arena": ["NO_LOCK", "NO_NAME_CHECK", "TAKE_ANY", "COMPLETE_FIRST", "NO_MARK"],
    "slot": ["FINISH_FIRST", "LAST_LOOK", "NO_WAIT_FOR_SUBMITS", "WORD_FIRST", "NO_ZEROS", "REFUSED_ROWS", "TWO_ENDS",
             "ASLEEP_LATE", "IDLE_WITHOUT_LOCK", "NO_WAIT_UNTIL_FREE"],
    "publish": ["SHOW_FIRST", "CATALOGUE_FIRST", "ANY_PIECE", "ACTIVATE_ANY", "ACTIVATE_REACHABLE", "RETIRE_ANY",
                "NO_DIGEST", "CHANGE_UNDER_WAY"],
}
# Other forms of a model, in which nothing may be found either.
FORMS = {"slot": ["STREAM_RESETS"]}
DEPTH = "1000000"


def search(model, macros, trace=False, optimize="-O0"):
    """(what was found or None, states, whether the search was complete, the trace)"""
    source = HERE / f"{model}.pml"
    defines = [f"-D{macro}" for macro in macros]
    with tempfile.TemporaryDirectory() as folder:
        def run(*command):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr
        for command in (["spin", *defines, "-a", str(source)],
                        ["gcc", optimize, "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"]):
            code, said = run(*command)
            if code != 0:
                sys.exit(f"error: {source.name}: {' '.join(command[:2])} failed:\n{said}")
        _, said = run("./pan", f"-m{DEPTH}")
        states = re.search(r"(\d+) states, stored", said)
        errors = re.search(r"errors: (\d+)", said)
        if not states or not errors:
            sys.exit(f"error: {source.name} {' '.join(macros)}: the search ended early:\n{said}")
        found = None
        if errors[1] != "0":
            found = re.search(r"^pan:\d+: (.*) \(at depth \d+\)", said, re.M)[1]
        complete = "max search depth too small" not in said and "not completed" not in said
        steps = run("spin", *defines, "-k", f"{source.name}.trail", "-t", "-p", str(source))[1] if trace and found else ""
        return found, int(states[1]), complete, steps


def check(job):
    model, mutation, form, full = job
    macros = [*([mutation] if mutation else []), *([form] if form else []), *(["FULL"] if full and not mutation else [])]
    # Mutations are found before a compiler has made their searches quick.
    found, states, complete, _ = search(model, macros, optimize="-O0" if mutation else "-O2")
    if mutation:
        good, result = found is not None, f"found: {found}" if found else "NOT FOUND"
    else:
        good = found is None and complete
        result = f"FOUND: {found}" if found else "nothing found" if complete else "SEARCH NOT COMPLETE"
    return good, f"{model:8} {mutation or form or '(as it is)':24} {states:9} states  {result}"


def main():
    arguments = sys.argv[1:]
    full = "--full" in arguments
    arguments = [argument for argument in arguments if argument != "--full"]
    if arguments and arguments[0] not in MUTATIONS or len(arguments) > 2:
        sys.exit(f"error: unknown arguments {' '.join(arguments)} (models: {', '.join(MUTATIONS)})")
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            sys.exit(f"error: `{program}` is not installed: deploy/install-deps.sh does it")
    if len(arguments) == 2:
        found, _, _, steps = search(arguments[0], [arguments[1]], trace=True)
        print(steps, f"found: {found}", sep="\n")
        return
    models = arguments or list(MUTATIONS)
    jobs = [(model, None, form, full) for model in models for form in [None, *FORMS.get(model, [])]]
    jobs += [(model, mutation, None, full) for model in models for mutation in MUTATIONS[model]]
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for good, line in pool.map(check, jobs):
            print(line, flush=True)
            failures += not good
    if failures:
        sys.exit(f"error: {failures} of {len(jobs)} searches did not end as they should")


main()
