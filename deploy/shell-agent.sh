#!/usr/bin/env bash
# A full agent in bash, curl and jq: fetch this host's checks, run each, post what it printed.
# One pass and exit, so that cron or a timer can call it; or, with --loop SECONDS, a pass every so often.
#
#   DOGWATCH_API_KEY_FILE   file with this host's key (dogwatch key create --role agent --agent NAME)
#   DOGWATCH_SERVER         default http://127.0.0.1:5000
#   DOGWATCH_SUBMIT_URL     where to post, if not at the server: for example http://127.0.0.1:5002/api/submit
#
# Exit code 0: everything was submitted; 1: something failed, as said on stderr; 2: wrong use.
set -u

server=${DOGWATCH_SERVER:-http://127.0.0.1:5000}
server=${server%/}
submit=${DOGWATCH_SUBMIT_URL:-$server/api/submit}
longest=65536 # bytes of output that are sent

say() { printf 'shell-agent: %s\n' "$*" >&2; }
wrong_use() { say "$*"; exit 2; }

loop=
case "${1-}" in
  '') ;;
  --loop) loop=${2-}; [[ $loop =~ ^[1-9][0-9]*$ && $# -eq 2 ]] || wrong_use '--loop needs a number of seconds' ;;
  *) wrong_use "usage: $0 [--loop SECONDS]" ;;
esac
for tool in curl jq; do
  command -v "$tool" >/dev/null || wrong_use "$tool is missing: install it"
done
key_file=${DOGWATCH_API_KEY_FILE-}
[[ -n $key_file ]] || wrong_use "DOGWATCH_API_KEY_FILE is not set: name the file with this host's key"
key=$(<"$key_file") && [[ -n $key ]] || wrong_use "no key in $key_file"

# The answer's body, then its status on a line of its own. The key goes through a pipe: an argument would show in the
# process list. Repeats are harmless, since a post carries an Idempotency-Key.
request() {
  curl --silent --show-error --max-time 30 --retry 3 --retry-max-time 60 \
    --header @<(printf 'X-API-Key: %s\n' "$key") --write-out '\n%{http_code}' "$@"
}

# Why a request was refused, in the server's words.
reason() { jq -r '.detail // "no reason given"' 2>/dev/null <<<"$1" || printf 'no reason given\n'; }

# post NAME STATUS < OUTPUT
post() {
  local answer
  # Without a status the server judges the value by the check's thresholds.
  answer=$(head -c "$longest" |
    jq -Rs --arg field "$1" --arg status "$2" \
      '{field: $field, value: .} + (if $status == "" then {} else {status: $status} end)' |
    request --header "Idempotency-Key: $1-$(date +%s)-$$-$RANDOM" --header 'Content-Type: application/json' \
      --data-binary @- "$submit") || { say "$1: cannot reach $submit"; return 1; }
  [[ ${answer##*$'\n'} == 202 ]] && return
  say "$1: refused with status ${answer##*$'\n'}: $(reason "${answer%$'\n'*}")"
  return 1
}

# run CHECK, an object of the configuration
run() {
  local name command format seconds output code status=
  name=$(jq -r '.name' <<<"$1")
  command=$(jq -r '.command' <<<"$1")
  format=$(jq -r '.output // "number"' <<<"$1")
  seconds=$(jq -r '((.timeout_ms // 30000) / 1000 | ceil)' <<<"$1")
  local limit=()
  command -v timeout >/dev/null && limit=(timeout -k 5 "$seconds")
  # The command's descriptors are its own: it must not read the list of checks.
  output=$(${limit[@]+"${limit[@]}"} bash -c "$command" </dev/null | head -c "$longest"; exit "${PIPESTATUS[0]}")
  code=$?
  if [[ ${#limit[@]} -gt 0 && ( $code -eq 124 || $code -eq 137 ) ]]; then
    output="no result within $seconds s"
    status=unknown
  elif [[ $format == nagios ]]; then
    case $code in 0) status=ok ;; 1) status=warning ;; 2) status=critical ;; *) status=unknown ;; esac
  fi
  post "$name" "$status" <<<"$output"
}

pass() {
  local answer body status failed=0 check
  answer=$(request "$server/api/agent/config") || { say "cannot reach $server"; return 1; }
  body=${answer%$'\n'*} status=${answer##*$'\n'}
  if [[ $status != 200 ]]; then
    say "no configuration: status $status: $(reason "$body")"
    return 1
  fi
  jq -e '.checks | type == "array"' >/dev/null 2>&1 <<<"$body" || {
    say "$server did not answer with checks: is it dogwatch?"
    return 1
  }
  while IFS= read -r check; do
    run "$check" || failed=1
  done < <(jq -c '.checks[] | select(.command)' <<<"$body")
  return "$failed"
}

if [[ -z $loop ]]; then
  pass
else
  while :; do
    pass
    sleep "$loop"
  done
fi
