#!/bin/sh
# A fleet on this machine: `testbed.sh run N COMMAND...` runs a command in a network of its own, in which N machines m1, m2, ... have sshd.
#
# Each machine has its own network, processes, host name, /tmp and /dev/shm. All of it hangs on one process: however that ends, the kernel ends
# and removes the rest. The command finds in $TESTBED a fleet.yaml and the keys. From within:
#   testbed.sh start M | stop M     power on, power off
#   testbed.sh cut M | mend M       its network cable
#   testbed.sh on M COMMAND...      run something there
#   testbed.sh in COMMAND...        run something in the network
# From without they work too, where $TESTBED is what FLEET_DIR was.
# Needs root, iproute2, util-linux and openssh-server; on Debian the last is installed if it is missing.
# FLEET_DIR is the directory to use, which must be there (default: a new one), FLEET_PYTHON the machines' Python (default: python3 here), FLEET_WORKERS
# how many workers each holds (default 1), FLEET_KEEP more directories of /tmp that the machines see.
set -eu

SELF=$(realpath "$0")
HUB_IP=10.77.0.1
ip_of() { echo "10.77.0.$((10 + ${1#m}))"; }
fail() { echo "testbed: $*" >&2; exit 2; }

install_sshd() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server openssh-client >/dev/null 2>&1; }

check() {
  [ "$(id -u)" = 0 ] || fail "needs root, for network namespaces"
  for tool in ip unshare nsenter; do command -v $tool >/dev/null || fail "$tool is missing; on Debian: apt-get install iproute2 util-linux"; done
  [ -x /usr/sbin/sshd ] && command -v ssh-keygen >/dev/null && return
  command -v apt-get >/dev/null || fail "sshd is missing; install the OpenSSH server"
  install_sshd || { apt-get update -qq && install_sshd; } >/dev/null 2>&1 || fail "sshd is missing, and apt-get install openssh-server failed"
}

# Of a directory that will be covered: what of it must stay to be seen.
keep() { for each in "$TESTBED" "$(dirname "$SELF")" ${FLEET_KEEP:-}; do case $each in /tmp/*) echo "$each";; esac; done; }

run() {
  check
  export FLEET_SIZE="$1"; shift
  export TESTBED="${FLEET_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/fleet-XXXXXX")}"
  echo $$ >"$TESTBED/pid"
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$SELF" hub "$@"
}

hub() {
  trap 'rm -rf "$TESTBED"' EXIT
  ip link set lo up
  ip link add name hub type bridge
  ip addr add "$HUB_IP/24" dev hub
  ip link set hub up
  ssh-keygen -q -t ed25519 -N '' -f "$TESTBED/key"
  : "${FLEET_PYTHON:=$(realpath "$(command -v python3)")}"  # a venv may lie where the machines see nothing
  {
    echo "stateDir: /tmp/rayscaler-ssh"
    echo "grace: ${FLEET_GRACE:-40s}"
    echo "forgetAfter: 15m"
    echo "machines:"
  } >"$TESTBED/fleet.yaml"
  for number in $(seq "$FLEET_SIZE"); do
    m=m$number
    mkdir "$TESTBED/$m"
    ssh-keygen -q -t ed25519 -N '' -f "$TESTBED/$m/host_key"
    cat >"$TESTBED/$m/sshd_config" <<END
HostKey $TESTBED/$m/host_key
AuthorizedKeysFile $TESTBED/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
END
    cat >>"$TESTBED/fleet.yaml" <<END
- name: $m
  host: $(ip_of $m)
  user: root
  keyFile: key
  hostKey: $(cut -d' ' -f1,2 "$TESTBED/$m/host_key.pub")
  python: $FLEET_PYTHON
  ip: $(ip_of $m)
  workers: ${FLEET_WORKERS:-1}
END
    start $m
  done
  trap : INT TERM  # the command gets them too, and its end is ours
  code=0
  "$@" || code=$?
  exit $code
}

start() {
  m=$1
  # Its standard streams are files: whoever waits for ours to be closed must not wait for a machine.
  TESTBED=$TESTBED unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc "$SELF" machine "$m" </dev/null >>"$TESTBED/$m/log" 2>&1 &
  echo $! >"$TESTBED/$m/pid"
  until [ "$(readlink /proc/"$(inner "$m")"/ns/net 2>/dev/null)" != "$(readlink /proc/self/ns/net)" ] && [ -n "$(inner "$m")" ]; do sleep 0.02; done
  ip link add "$m" type veth peer name eth0 netns "$(inner "$m")"
  ip link set "$m" master hub up
  touch "$TESTBED/$m/plugged"
  tries=0
  until nsenter -t "$(inner "$m")" -n sh -c "exec 3<>/dev/tcp/127.0.0.1/22" 2>/dev/null || nsenter -t "$(inner "$m")" -n ss -ltn 2>/dev/null | grep -q ':22 '; do
    tries=$((tries + 1)); [ $tries -lt 500 ] || fail "sshd of $m does not start: $(tail -3 "$TESTBED/$m/log")"
    sleep 0.02
  done
}

# The first process within a machine.
inner() { child_of "$(cat "$TESTBED/$1/pid")"; }
child_of() { tr -d ' ' <"/proc/$1/task/$1/children" 2>/dev/null; }

machine() {
  m=$1
  hostname "$m"
  mount --make-rprivate /
  kept=$(keep)
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir /run/sshd
  for each in $kept; do
    mkdir -p "/run/kept$each" && mount --bind "$each" "/run/kept$each"
  done
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  # What this machine's own shell does at a login may take seconds, and locks that all machines would share.
  [ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc
  for each in $kept; do mkdir -p "$each"; mount --bind "/run/kept$each" "$each"; done
  until [ -e "$TESTBED/$m/plugged" ]; do sleep 0.02; done
  rm "$TESTBED/$m/plugged"
  ip link set lo up
  ip addr add "$(ip_of "$m")/24" dev eth0
  ip link set eth0 up
  ip route add default via "$HUB_IP"
  exec /usr/sbin/sshd -D -e -f "$TESTBED/$m/sshd_config"
}

# Only in its network: whoever starts a command so knows it by its own number.
within() { [ -z "${HUB:-}" ] || exec "$@"; exec nsenter -t "$(child_of "$(cat "$TESTBED/pid")")" --net -- "$@"; }

on() { m=$1; shift; exec nsenter -t "$(inner "$m")" --all -- "$@"; }

stop() {
  kill -9 "$(cat "$TESTBED/$1/pid")"
  until [ ! -e "/proc/$(cat "$TESTBED/$1/pid")" ] || grep -q '^State:.Z' "/proc/$(cat "$TESTBED/$1/pid")/status"; do sleep 0.02; done
  until ! ip link show "$1" >/dev/null 2>&1; do sleep 0.02; done
}

# Goes in, where it is called from without.
enter() { [ -n "${HUB:-}" ] || HUB=1 exec nsenter -t "$(child_of "$(cat "$TESTBED/pid")")" --all -- "$SELF" "$@"; }

case ${1:-} in
  run) shift; [ $# -ge 2 ] || fail "run N COMMAND..."; run "$@";;
  hub) shift; export HUB=1; hub "$@";;
  machine) machine "$2";;
  start|stop) enter "$@"; "$1" "$2";;
  cut) enter "$@"; ip link set "$2" down;;
  mend) enter "$@"; ip link set "$2" up;;
  on) enter "$@"; shift; on "$@";;
  in) shift; within "$@";;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$SELF"; exit 2;;
esac
