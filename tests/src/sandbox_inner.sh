# First process of a sandbox (behind scripts/lib/cgroups.sh): hides what engines write to behind mounts of its own, says
# "ready PID", and waits for its stdin to end. When it ends, the kernel kills all that runs inside.
set -eu
tag=$1
read -r pid _ </proc/self/stat # still the caller's /proc: the pid by which the test knows us
mount --make-rprivate /
hostname "$tag"
ip link set lo up

# /run first: the other mounts keep their layers there. All of it is memory and dies with the namespace.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/tmp /run/layer/up /run/layer/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/layer/up,workdir=/run/layer/work overlay /etc
# What `weft install` and others put below /usr/local stays in here, too.
mkdir -p /run/layer/local-up /run/layer/local-work
mount -t overlay -o lowerdir=/usr/local,upperdir=/run/layer/local-up,workdir=/run/layer/local-work overlay /usr/local
for dir in /opt /var/lib /var/log /var/tmp /dev/shm; do
    mount -t tmpfs -o mode=755 tmpfs "$dir"
done
chmod 1777 /var/tmp /dev/shm
mkdir -p /opt/cni/bin /var/lib/cni
rm -rf /etc/cni
mkdir -p /etc/cni/net.d
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$tag" >/etc/hosts
rm -f /etc/resolv.conf
echo 'nameserver 127.0.0.1' >/etc/resolv.conf # nobody answers: names are not what is tested here

# A sysfs of this network namespace, with the cgroup hierarchies as this cgroup namespace shows them.
cgroups_hide
# On v2 nobody is in this cgroup itself any more, so it may hand its controllers on.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
    done
fi
mount -t proc proc /proc
mount --make-rshared / # engines propagate mounts into their containers

# Joins the sandbox's cgroups, then becomes the command: nsenter enters their namespace only.
cat >/run/join <<'JOIN'
#!/bin/sh
if [ -e /sys/fs/cgroup/cgroup.procs ]; then # v2
    echo $$ >/sys/fs/cgroup/init/cgroup.procs
else
    for procs in /sys/fs/cgroup/*/cgroup.procs; do echo $$ >"$procs"; done
fi
exec "$@"
JOIN
chmod 755 /run/join

echo "ready $pid"
read -r _ || true
