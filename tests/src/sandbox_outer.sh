# Holds a sandbox (behind scripts/lib/cgroups.sh): makes its cgroups, starts its first process in namespaces of its own, and takes
# the cgroups away when that process is gone. Runs in the caller's namespaces.
#   bash -c OUTER sandbox TAG INNER      (stdin: a pipe from the test; its end ends the sandbox)
set -eu
tag=$1 inner=$2

(
    cgroups_join "$tag"
    # The cgroup namespace begins where we are now. On a v2 machine only leaves may have processes, so
    # that all of us, the waiting parent too, then move on to a leaf.
    exec unshare --cgroup -- bash -euc '
        leaf=/sys/fs/cgroup/$2/init
        if [ -e /sys/fs/cgroup/cgroup.procs ]; then mkdir "$leaf"; echo $$ >"$leaf/cgroup.procs"; fi
        exec unshare --net --mount --uts --ipc --pid --fork -- bash -c "$1" sandbox "$2"' sandbox "$inner" "$tag"
) && status=0 || status=$?

# The first process is dead, so the kernel has killed all others; their cgroups empty within moments.
cgroups_remove "$tag"
exit "$status"
