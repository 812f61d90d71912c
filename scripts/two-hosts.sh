#!/bin/sh
# Two hosts on one machine: network namespaces joined by a link of a given rate, each with its own address, host name, process
# table and shared memory. For tests and measurements of training over a network. Needs root and iproute2.
#
#   two-hosts.sh up NAME [RATE] [BURST]  makes NAME-a (10.77.0.1) and NAME-b (10.77.0.2); as tc writes them, default 1gbit 1mb
#   two-hosts.sh exec NAME a COMMAND  runs a command there
#   two-hosts.sh link NAME up|down    the cable, as seen from NAME-b
#   two-hosts.sh down NAME            takes both away
#   two-hosts.sh agent HOST COMMAND   what mpirun starts instead of ssh; NAME is in LOCKSTEP_TWO_HOSTS
#
#   two-hosts.sh up test 1gbit
#   LOCKSTEP_TWO_HOSTS=test two-hosts.sh exec test a mpirun --mca plm_rsh_agent "$PWD/two-hosts.sh agent" \
#     --host 10.77.0.1:1,10.77.0.2:1 hostname
set -eu

enter() { # NAME SIDE COMMAND...
  name=$1
  side=$2
  shift 2
  # Each host has its half of the processors, whoever starts something on it. (--all: host a starts things on host b.)
  cores=$(nproc --all)
  half=$((cores / 2))
  [ "$side" = a ] && range=0-$((half - 1)) || range=$half-$((cores - 1))
  bind="taskset -c $range"
  [ "$half" -gt 0 ] && $bind true 2>/dev/null || bind=
  # shellcheck disable=SC2086 # words of a command
  exec $bind ip netns exec "$name-$side" unshare --uts --ipc --pid --fork --kill-child --mount-proc \
    sh -c 'hostname "$0" && exec "$@"' "host-$side" "$@"
}

case ${1:-} in
  up)
    name=$2
    rate=${3:-1gbit}
    burst=${4:-1mb}
    for side in a b; do ip netns add "$name-$side"; done
    ip -n "$name-a" link add wire type veth peer name wire netns "$name-b"
    for side in a b; do
      [ "$side" = a ] && address=10.77.0.1 || address=10.77.0.2
      ip -n "$name-$side" address add "$address/24" dev wire
      ip -n "$name-$side" link set lo up
      ip -n "$name-$side" link set wire up
      # 1 MB may pass at once, 8 ms of 1 Gbit/s. With a bucket no larger than the kernel's largest packets (64 KB) each is cut up
      # on the processor, which a network card does for free. The queue holds 20 ms of traffic.
      tc -n "$name-$side" qdisc add dev wire root tbf rate "$rate" burst "$burst" latency 20ms
      # What Linux uses unless it is told otherwise, whatever this machine was told; where the kernel has it.
      ip -n "$name-$side" route change 10.77.0.0/24 dev wire src "$address" congctl cubic 2>/dev/null || true
    done
    ;;
  down)
    for side in a b; do ip netns delete "$2-$side" 2>/dev/null || true; done
    ;;
  exec)
    shift
    enter "$@"
    ;;
  link)
    ip -n "$2-b" link set wire "$3"
    ;;
  agent)
    shift
    host=$1
    shift
    [ "$host" = 10.77.0.1 ] && side=a || side=b
    enter "$LOCKSTEP_TWO_HOSTS" "$side" sh -c "$*"
    ;;
  *)
    sed -n '2,15s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
