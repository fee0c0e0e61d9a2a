#!/usr/bin/env bash
# Is .venv ready for this tree? If not, make it so: one line per step, and one line when a step fails.
# Nothing is redone unless the dependencies, the overrides, this script or the place of the tree changed.
#
#   SCORPIO_BUILD=gpu  install vLLM for GPUs (default: cpu)     PYTHON=...  the interpreter (default: python3.11)
#   SCORPIO_CACHE=DIR  where the embedded model is kept
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build="${SCORPIO_BUILD:-cpu}"
python="${PYTHON:-python3.11}"
venv="$PWD/.venv"
py="$venv/bin/python"
log="$venv/setup.log"
stamp="$venv/setup.stamp"
child=""

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
on_signal() {
    if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; fi
    say "interrupted; run it again to continue"
    exit 130
}
trap on_signal INT TERM

# step TEXT REMEDY COMMAND...   runs COMMAND into the log and shows now and then where it is
step() {
    local text="$1" remedy="$2" began=$SECONDS code=0
    shift 2
    say "$text"
    printf '\n== %s\n' "$text" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null 9>&- &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - began > 0 && (SECONDS - began) % 15 == 0)); then
            say "  ${text%%[ :,]*} ... $((SECONDS - began)) s: $(last_words)"
            sleep 1
        fi
    done
    wait "$child" || code=$?
    child=""
    if ((code != 0)); then fail "${text%% (*} - $remedy; log: $log; it says: $(failing_words)"; fi
    say "  done in $((SECONDS - began)) s"
}
# the last line of the running step that is not empty
last_words() { awk 'NF { l = $0 } /^== / { l = "no output yet" } END { print substr(l, 1, 160) }' "$log" | tr '\r\t' '  '; }
# the first line of the failing step that calls itself an error, else the last one
failing_words() {
    awk '/^== / { e = "" } /^(error|ERROR)/ { if (e == "") e = $0 } NF { l = $0 }
         /^ +cause:/ { if (e != "" && e !~ /cause:/) e = e ";" $0 }
         END { print substr(e == "" ? l : e, 1, 300) }' "$log" | tr '\r\t' '  '
}

# Of pyproject.toml only what installs something: the settings of tools come after it.
fingerprint() {
    { sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat deploy/dev/overrides.txt deploy/dev/setup.sh; echo "$PWD $build $python"; } |
        sha256sum | cut -d' ' -f1
}

# A value of pip's own settings (variable, user or global file), because uv does not read them.
pip_setting() {
    "$py" -m pip config list 2>/dev/null |
        sed -n "s/^\(:env:\|install\|global\|user\|site\)\.$1='\(.*\)'\$/\2/p" | tr '\n' ' ' | sed 's/\\n/ /g'
}

check_tools() {
    command -v "$python" >/dev/null || fail "$python not found: install Python 3.11 with its venv module"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' ||
        fail "$python is $("$python" -V 2>&1): vLLM needs Python 3.11 or later"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv or ensurepip: install it (Debian, Ubuntu: apt install python3.11-venv)"
    command -v gcc >/dev/null || fail "gcc not found: vLLM compiles kernels with it (Debian, Ubuntu: apt install gcc)"
    if [ "$build" = cpu ] && [ "$(uname -m)" = x86_64 ]; then
        grep -qw avx2 /proc/cpuinfo || fail "this CPU has no AVX2: the CPU build of vLLM does not run on it"
    fi
    local free_kb
    free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
    if [ ! -x "$py" ] && ((free_kb < 6000000)); then
        fail "$((free_kb / 1000)) MB free in $PWD: 6 GB are needed"
    fi
}

make_venv() {
    # a venv knows its own path: after a move its scripts point to the old place
    if "$py" -m pip --version >/dev/null 2>&1 && grep -qF "$venv" "$venv/bin/activate"; then return; fi
    mkdir -p "$venv" # for the log; --clear would take the log along
    find "$venv" -mindepth 1 -maxdepth 1 ! -name 'setup.lo[gc]*' -exec rm -rf {} +
    step "venv in .venv ($("$python" -V))" "is the venv module of $python complete?" "$python" -m venv "$venv"
}

install_packages() {
    local uv=("$venv/bin/uv" pip install --python "$py") value word links=""
    for word in $(pip_setting find-links); do
        uv+=(--find-links "$word")
        links=yes
    done
    value="$(pip_setting index-url)" # the variable comes before the files
    if [ -n "$value" ]; then uv+=(--default-index "${value%% *}"); fi
    value="$(pip_setting extra-index-url)"
    if [ -n "$value" ]; then
        # as pip does: the best version of all indexes, not the first index that knows the name
        uv+=(--index-strategy unsafe-best-match)
        for word in $value; do uv+=(--index "$word"); done
    fi
    value="$(pip_setting cert)"
    if [ -n "$value" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-${value%% *}}"; fi
    if [ "$build" = cpu ]; then
        uv+=(--override deploy/dev/overrides.txt)
        # vLLM wants torch +cpu, which is not on PyPI: where pip's own settings (find-links, an index)
        # do not offer it, it comes from PyTorch's index.
        say "packages: looking for torch +cpu"
        if ! "${uv[@]}" --dry-run -e ".[$build]" >>"$log" 2>&1 </dev/null 9>&-; then
            say "  not where pip looks: taking PyTorch's own index"
            uv+=(--torch-backend=cpu)
        fi
    fi
    step "packages: vLLM ($build), training and development tools (some minutes the first time)" \
        "is there a network or a pip mirror${links:+ (find-links are used)}?" \
        "${uv[@]}" -e ".[$build,train,fleet,dev]"
}

prepare_model() {
    # checked on every run, because the cache can be emptied behind our back; 0.2 s when it is there
    if "$py" -m scorpio.models smollm2 --if-ready >/dev/null 2>&1; then return; fi
    step "model SmolLM2-135M-Instruct: fetch and convert (about a minute, once per user)" \
        "run it again once what it says is mended" "$py" -m scorpio.models smollm2
}

# get_tool COMMAND WHAT_FOR PACKAGE...   Only in CI is it ours to install; without it its tests say that they are skipped.
get_tool() {
    local tool="$1" what="$2"
    shift 2
    if [ "${CI:-}" != true ] || [ "$(id -u)" != 0 ] || command -v "$tool" >/dev/null; then return; fi
    command -v apt-get >/dev/null || return 0
    say "$tool: for the tests of $what"
    if DEBIAN_FRONTEND=noninteractive timeout 300 sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' - "$@" \
        >>"$log" 2>&1 </dev/null 9>&-; then return; fi
    say "  not installed ($(last_words)): the tests of $what are skipped"
}

case "$build" in cpu | gpu) ;; *) fail "SCORPIO_BUILD=$build: cpu or gpu" ;; esac
key="$(fingerprint)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
    began=$SECONDS
    check_tools
    mkdir -p "$venv"
    # two targets started at once take turns
    if command -v flock >/dev/null; then
        exec 9>"$venv/setup.lock"
        flock -n 9 || { say "another set-up is at work: waiting for it"; flock 9; }
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
        : >"$log"
        make_venv
        step "uv, the installer" "pip could not fetch uv: check the network or pip's settings" \
            "$py" -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
        install_packages
        step "vLLM: does it load?" "vLLM is installed but does not import: delete .venv and run again" \
            env HF_HUB_OFFLINE=1 "$py" -c 'import vllm; from vllm import LLM; import scorpio, workloads, predictors'
        prepare_model
        get_tool chromium "the status page" chromium fonts-dejavu-core
        if ! command -v promtool >/dev/null; then
            get_tool promtool "alerts and dashboard" prometheus
            if command -v promtool >/dev/null; then # Debian starts what it installs
                systemctl disable --now prometheus >>"$log" 2>&1 </dev/null || true
            fi
        fi
        printf '%s\n' "$key" >"$stamp"
        say "ready after $((SECONDS - began)) s"
    fi
else
    prepare_model
fi
