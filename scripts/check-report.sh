#!/usr/bin/env bash
# Makes a report from the recorded sample and opens it in headless Chromium, at the width of a phone and of a desk: tables
# must sort, nothing may reach the error console, the page itself may not scroll sideways.
#
#   scripts/check-report.sh [PROGRAM]      the built `tconv`; without it, it is built in release
#
# Exit code 3: there is no Chromium and none can be installed; it says so.
set -euo pipefail
cd "$(dirname "$0")/.."

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [[ -z $browser ]]; then
    if command -v apt-get >/dev/null && [[ $EUID == 0 ]]; then
        timeout 300 sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium' >/dev/null 2>&1 || true
    fi
    browser=$(command -v chromium || true)
    [[ -n $browser ]] || { echo "NOT CHECKED: no Chromium here, and apt-get cannot install it"; exit 3; }
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tconv=(cargo run --release --quiet --locked --package tconv-bench --bin tconv --)
[[ -z ${1-} ]] || tconv=("$1")
"${tconv[@]}" report bench-harness/tests/data/runs/*.jsonl -o "$folder" >/dev/null

# The page with an ear on the console before its own script, and the test after it.
ear='<script>window.reportErrors=[];addEventListener("error",(e)=>reportErrors.push(e.message));console.error=(...a)=>reportErrors.push(a.join(" "));</script>'
{
    sed "s|<head>|<head>${ear//&/\\&}|; s|</body></html>\$||" "$folder/index.html"
    printf '<script>'; cat scripts/check-report.js; printf '</script></body></html>\n'
} >"$folder/test.html"

status=0
for width in 500 1280; do
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" --window-size="$width,900" \
        --virtual-time-budget=5000 --dump-dom "file://$folder/test.html" >"$folder/dom.html" 2>"$folder/log" || true
    verdict=$(grep -o '<title>[^<]*' "$folder/dom.html" | head -n 1 | cut -d'>' -f2 || true)
    echo "window of $width: ${verdict:-no answer from $browser}"
    [[ $verdict == PASSED* ]] || status=1
done
((status == 0)) || tail -n 5 "$folder/log"
exit $status
