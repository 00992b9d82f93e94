#!/bin/bash
# A machine of its own with this one's files: systemd as its first process, INSTALLED copied over them, nothing kept. It ends
# with standard input: unshare --mount machine.sh FOLDER INSTALLED
set -eu
folder=$1
installed=$2
root=$folder/root

if [ $# = 2 ]; then
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$folder"
    mkdir "$folder"/{cgroup,root,upper,work}
    mount -t cgroup2 cgroup2 "$folder/cgroup"
    # What it is to see of the control groups.
    group=$folder/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/splitmx-test-$$
    mkdir "$group"
    exec 3<&0
    (
        echo 0 >"$group/cgroup.procs"
        exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup "$0" "$folder" "$installed" inside
    ) 3<&- &
    machine=$!
    (
        cat >/dev/null
        kill -KILL $machine 2>/dev/null
    ) <&3 &
    wait $machine || true
    for _ in {1..50}; do # the last of its processes takes its time
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        [ -d "$group" ] || break
    done
    exit
fi

mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
cp -a "$installed/." "$root"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys" # the kernel is not ours to set up
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root"/dev/{pts,shm,mqueue,hugepages}
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for node in null zero full random urandom tty; do cp -a /dev/$node "$root/dev"; done
# Nothing but what basic.target takes, and of that nothing that looks for hardware.
mount -t tmpfs -o mode=755 tmpfs "$root/etc/systemd/system"
for unit in systemd-udevd systemd-udev-trigger systemd-modules-load systemd-sysctl systemd-binfmt systemd-timesyncd systemd-networkd \
    systemd-resolved; do
    ln -s /dev/null "$root/etc/systemd/system/$unit.service"
done
rm -rf "$root/etc/splitmx" "$root/var/lib/splitmx" "$root/var/log/journal"
ip link set lo up
mount --rbind "$root" "$root"
cd "$root"
mkdir -p mnt
pivot_root . mnt
umount -l mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-level=warning
