#!/bin/bash
# The whole of it on this machine: two machines with sshd, a real Ray head, rayscaler, the plugin. Tasks run on the machines; the plugin is killed, the
# head is killed; at last nothing is wanted, and nothing runs. Exits 0 with a summary if all of it was seen.
#
# Needs what testbed.sh needs, Go, and a Python with rayscaler and Ray: PYTHON (default: the checkout's .venv, else python3). Takes about two minutes.
set -eEuo pipefail
shopt -s inherit_errexit
trap 'fail "line $LINENO failed"' ERR

HERE=$(dirname "$(realpath "$0")")
ROOT=$(realpath "$HERE/../..")
HEAD=10.77.0.1
CLUSTER=ssh-demo
TASKS=8

say() { echo "$(date +%T) $*"; }
fail() {
  echo "demo: $*" >&2
  [ -z "${TESTBED:-}" ] || tail -n 20 "$TESTBED"/{serve,monitor,head,job}.log "$TESTBED"/m?/log >&2 2>/dev/null || true
  exit 1
}

# Looks once in a while until a command succeeds.
until_so() {
  local within=$1 what=$2; shift 2
  for ((look = 0; look < within * 5; look++)); do
    if "$@"; then return; fi
    sleep 0.2
  done
  fail "not within $within s: $what"
}

outside() {
  PYTHON=${PYTHON:-$([ -x "$ROOT/.venv/bin/python" ] && echo "$ROOT/.venv/bin/python" || command -v python3)}
  "$PYTHON" -c 'import ray, rayscaler' || { echo "demo: $PYTHON has no Ray or no rayscaler: pip install 'rayscaler[local]', or set PYTHON" >&2; exit 2; }
  say "building the plugin"
  # The Go beside Python is for a machine that has none, or an old one.
  (cd "$HERE" && { go build -o plugin-go-ssh . || PATH="$(dirname "$PYTHON"):$PATH" go build -o plugin-go-ssh .; } ) || exit 2
  FLEET_PYTHON=$PYTHON FLEET_KEEP="$ROOT $(dirname "$(dirname "$PYTHON")")" PYTHON=$PYTHON exec "$HERE/testbed.sh" run 2 "$0" inside
}

start_head() {
  # Session directories are by machine: this one must not be a directory that the machines see.
  RAY_enable_autoscaler_v2=1 setsid "$RAY" start --head --block --no-monitor --node-ip-address=$HEAD --port=6379 --num-cpus=0 --include-dashboard=false \
    --temp-dir="$SESSIONS" >>"$TESTBED/head.log" 2>&1 &
  HEAD_PID=$!
  # The port answers before what is behind it does; drivers and monitor wait by themselves.
  until_so 60 "the head answers" head_answers
}
head_answers() { (exec 3<>/dev/tcp/$HEAD/6379) 2>/dev/null; }

# Everything of the head at once. Its session has it all, and nothing of the machines, whose processes can be seen from here.
kill_head() {
  kill -9 $(pgrep -s "$HEAD_PID")
  wait "$HEAD_PID" 2>/dev/null || true
}

# Which machines have a worker, each with the number of its supervisor.
workers() {
  for m in m1 m2; do
    "$HERE/testbed.sh" on $m "$PYTHON" -c 'import glob, json, sys
for path in glob.glob("/tmp/rayscaler-ssh/*/*.json"): print(sys.argv[1], json.load(open(path))["pid"])' $m
  done
}
has_workers() { [ "$(workers | cut -d' ' -f1 | tr '\n' ' ')" = "$1" ]; }
other_plugin() { local now; now=$(pgrep -of -- "plugin-go-ssh -fleet") && [ "$now" != "$1" ]; }
no_processes() { [ "$(for m in m1 m2; do "$HERE/testbed.sh" on $m pgrep -f 'raylet|rayscaler-ssh/supervisor' || true; done)" = "" ]; }

# Runs tasks, once so many machines are there, and fails unless each was done, on the machines alone.
run_tasks() {
  "$PYTHON" "$HERE/demo_job.py" $HEAD:6379 "$TESTBED/ledger" "$1" $TASKS "$2" >>"$TESTBED/job.log" 2>&1 || fail "the job of $1 failed"
  local count hosts
  count=$(grep -c "^$1 " "$TESTBED/ledger") || true
  hosts=$(grep "^$1 " "$TESTBED/ledger" | cut -d' ' -f3 | sort | uniq -c | awk '{ printf("%s%s on %s", (NR > 1 ? ", " : ""), $1, $2) }')
  [ "$(grep "^$1 " "$TESTBED/ledger" | cut -d' ' -f3 | sort -u | tr '\n' ' ')" = "m1 m2 " ] || fail "the tasks of $1 ran elsewhere: $hosts"
  [ "$count" -ge $TASKS ] || fail "the ledger has $count tasks of $1, and $TASKS were asked for"
  say "$1: tasks by machine: $hosts"
  SUMMARY+=("$1: tasks by machine: $hosts")
}

inside() {
  RAY=$(dirname "$PYTHON")/ray
  SESSIONS=$(mktemp -d /tmp/rs-XXXXXX)
  SUMMARY=()
  trap 'rm -rf "$SESSIONS"' EXIT
  export RAY_USAGE_STATS_ENABLED=0 PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
  cat >"$TESTBED/cluster.yaml" <<END
apiVersion: rayscaler.io/v1
kind: Cluster
metadata: {name: $CLUSTER}
spec:
  idleTimeout: 20s
  executor: {exec: [$HERE/plugin-go-ssh, -fleet, $TESTBED/fleet.yaml]}
  head:
    resources: {CPU: 0}
    startParams: {node-ip-address: $HEAD, port: "6379"}
  nodeTypes:
  - {name: machine, resources: {CPU: 2}, maxWorkers: 2}
END
  say "starting a Ray head without CPUs, rayscaler, and beside the head its monitor"
  start_head
  "$PYTHON" -m rayscaler serve -f "$TESTBED/cluster.yaml" --state-dir "$TESTBED/state" >"$TESTBED/serve.log" 2>&1 &
  "$PYTHON" -m rayscaler monitor --cluster $CLUSTER --gcs $HEAD:6379 >"$TESTBED/monitor.log" 2>&1 &
  has_workers "" || fail "there are workers before anything was asked for"

  run_tasks first 0
  has_workers "m1 m2 " || fail "not one worker on each machine: $(workers)"
  local before
  before=$(workers)

  say "killing the plugin"
  local plugin
  plugin=$(pgrep -of -- "plugin-go-ssh -fleet")
  kill -9 "$plugin"
  until_so 30 "another plugin runs" other_plugin "$plugin"
  [ "$(workers)" = "$before" ] || fail "the workers were $before and are $(workers)"
  SUMMARY+=("the plugin was killed: started again, the workers stayed")

  say "killing the head, and starting another one"
  kill_head
  rm -rf "${SESSIONS:?}"/*
  start_head
  run_tasks second 2
  [ "$(workers)" = "$before" ] || fail "the workers were $before and are $(workers)"
  SUMMARY+=("the head was killed: the workers joined its successor, on the same machines, under the same supervisors")

  say "waiting until the machines are idle and given back"
  until_so 90 "no machine has a worker" has_workers ""
  no_processes || fail "processes of Ray are left on the machines"
  SUMMARY+=("scale-down: no worker, and nothing of Ray on the machines")
  "$PYTHON" -m rayscaler status >>"$TESTBED/serve.log" 2>&1 || fail "the service does not answer"
  echo
  printf '  %s\n' "${SUMMARY[@]}"
  say "all of it was seen"
}

case ${1:-} in
  "") outside;;
  inside) inside;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2;;
esac
