#!/bin/sh
# A Slurm of one node, this machine, for tests: all that it writes is in one folder.
#
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge    # Debian 12; as root
#   tests/slurm/one_node.sh start /tmp/slurm
#   SLURM_CONF=/tmp/slurm/slurm.conf sinfo
#   tests/slurm/one_node.sh stop /tmp/slurm
#
# Runs without systemd, as in a container. Needs root, as slurmd does to start jobs; without accounting (no slurmdbd).
set -eu
doing=$1 folder=$2

stop() {
    for name in slurmd slurmctld munged; do
        if [ -s "$folder/$name.pid" ]; then
            kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
        fi
    done
}

start() {
    umask 022
    mkdir -p "$folder/state" "$folder/spool"
    folder=$(cd "$folder" && pwd)
    name=$(hostname -s)
    cores=$(getconf _NPROCESSORS_ONLN)
    dd if=/dev/urandom of="$folder/munge.key" bs=1 count=1024 2>/dev/null
    chmod 400 "$folder/munge.key"
    # --force: it would rather not have its socket and log beside other people's files, as under /tmp.
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" 2>"$folder/munged.err"
    cat >"$folder/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# No cgroups, which a container cannot make.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
JobRequeue=1
ReturnToService=2
# As urgent as what submits them: tests share the machine.
PropagatePrioProcess=1
KillWait=10
MinJobAge=3600
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -c
    slurmd -c
    for _ in $(seq 60); do
        if sinfo --noheader --format=%t 2>/dev/null | grep -qE '^(idle|mix)'; then
            echo "$SLURM_CONF"
            return
        fi
        sleep 1
    done
    echo "one_node.sh: the node did not come up within a minute; see $folder/*.log" >&2
    stop
    exit 1
}

case $doing in
start) start ;;
stop) stop ;;
*) echo "usage: one_node.sh start|stop FOLDER" >&2 && exit 2 ;;
esac
