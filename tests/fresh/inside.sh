#!/bin/sh
# The first process of a fresh machine, in mount, pid, net and uts namespaces of its own: puts its file system together,
# says "ready", and then only waits. Arguments: the lower layers (a:b), the folder of the overlay, the host's name.
set -eu
layers=$1 folder=$2 name=$3
root=$folder/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do ln -s "fd/$number" "$root/dev/$(echo "stdin stdout stderr" | cut -d' ' -f$((number + 1)))"; done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/run/lock"
mkdir -p "$root/var/cache/apt/archives" "$root/var/cache/pip-root" "$root/var/cache/pip-user"
for cache in apt/archives pip-root pip-user; do mount --bind "$folder/caches/$cache" "$root/var/cache/$cache"; done
hostname "$name"
ip link set lo up
cd "$root"
mkdir -p .before
pivot_root . .before
cd /
umount -l /.before
rmdir /.before
echo ready
# Orphans become children of this shell, which reaps them while it waits.
exec sh -c 'while :; do sleep 1000 & wait $!; done' "$name"
