# Holds a sandbox: makes its cgroups, starts its first process in namespaces of its own, and takes
# the cgroups away when that process is gone. Runs in the caller's namespaces.
#   bash -c OUTER sandbox TAG INNER      (stdin: a pipe from the test; its end ends the sandbox)
set -eu
tag=$1 inner=$2

# Mount points of every cgroup hierarchy: nine on a v1 or hybrid machine, one on a v2 machine.
hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)

(
    for h in $hierarchies; do
        mkdir "$h/$tag"
        if [ -e "$h/cpuset.cpus" ] && [ -e "$h/cpuset.mems" ]; then # v1: a new cpuset is empty and takes no process
            cat "$h/cpuset.cpus" >"$h/$tag/cpuset.cpus"
            cat "$h/cpuset.mems" >"$h/$tag/cpuset.mems"
            echo 1 >"$h/$tag/cgroup.clone_children"
        fi
        echo "$BASHPID" >"$h/$tag/cgroup.procs"
    done
    # The cgroup namespace begins where we are now. On a v2 machine only leaves may have processes, so
    # that all of us, the waiting parent too, then move on to a leaf.
    exec unshare --cgroup -- bash -euc '
        leaf=/sys/fs/cgroup/$2/init
        if [ -e /sys/fs/cgroup/cgroup.procs ]; then mkdir "$leaf"; echo $$ >"$leaf/cgroup.procs"; fi
        exec unshare --net --mount --uts --ipc --pid --fork -- bash -c "$1" sandbox "$2"' sandbox "$inner" "$tag"
) && status=0 || status=$?

# The first process is dead, so the kernel has killed all others; their cgroups empty within moments.
for h in $hierarchies; do
    for _ in $(seq 100); do
        find "$h/$tag" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$h/$tag" ] || break
        sleep 0.05
    done
done
exit "$status"
