# cgroups of a script's own, so that what it starts makes its groups there and not on the machine.
# Sourced. The script calls cgroups_join before it enters its namespaces, cgroups_hide inside, cgroups_remove at its end.

cgroups_all() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

# TAG: joins a new group of this name in every tree. Then `unshare --cgroup` makes it the root.
cgroups_join() {
    local h
    for h in $(cgroups_all); do
        mkdir "$h/$1"
        if [ -e "$h/cpuset.cpus" ] && [ -e "$h/cpuset.mems" ]; then # v1: a new cpuset is empty and takes no process
            cat "$h/cpuset.cpus" >"$h/$1/cpuset.cpus"
            cat "$h/cpuset.mems" >"$h/$1/cpuset.mems"
            echo 1 >"$h/$1/cgroup.clone_children"
        fi
        echo "$BASHPID" >"$h/$1/cgroup.procs"
    done
}

# On a host with v2 only, groups that hand controllers on have no processes of their own: all go to a leaf.
cgroups_leaf() {
    [ -e /sys/fs/cgroup/cgroup.procs ] || return 0
    mkdir "/sys/fs/cgroup/$1/init"
    echo "$BASHPID" >"/sys/fs/cgroup/$1/init/cgroup.procs"
}

# Shows the trees from the own group down, in a mount namespace of one's own.
cgroups_hide() {
    local trees point type options controllers
    trees=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/mounts)
    umount -l /sys
    mount -t sysfs sysfs /sys
    case $trees in
    "/sys/fs/cgroup cgroup2 "*) mount -t cgroup2 cgroup2 /sys/fs/cgroup && return ;;
    esac
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r point type options; do
        mkdir -p "$point"
        controllers=$(echo "$options" | tr , '\n' |
            grep -vE '^(rw|ro|relatime|nosuid|nodev|noexec|xattr|clone_children|release_agent=.*|nsdelegate|memory_recursiveprot)$' |
            paste -sd, || true)
        case $type:$controllers in
        cgroup2:*) mount -t cgroup2 cgroup2 "$point" ;;
        cgroup:name=*) mount -t cgroup -o "none,$controllers" cgroup "$point" ;;
        cgroup:*) mount -t cgroup -o "$controllers" cgroup "$point" ;;
        esac
    done <<<"$trees"
}

# TAG: takes the groups away, once nothing runs in them.
cgroups_remove() {
    local h
    for h in $(cgroups_all); do
        for _ in $(seq 100); do
            find "$h/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -d "$h/$1" ] || break
            sleep 0.05
        done
    done
}
