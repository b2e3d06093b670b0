#!/usr/bin/env bash
# usage: image.sh FOLDER IMAGE KERNEL INITRD
# Makes the system that the agent is tried on: Debian 12 with systemd, ifupdown and cloud-init, from Debian's packages.
# The script that tries it (guest.py) and its environment come on a second disk, mounted at /trial.
set -euo pipefail
root=$1 image=$2 kernel=$3 initrd=$4

mmdebstrap --variant=minbase --quiet \
    --include=systemd,systemd-sysv,udev,dbus,ifupdown,iproute2,python3,curl,cloud-init,rpm,linux-image-cloud-amd64,initramfs-tools,kmod,netbase \
    bookworm "$root"

put() { mkdir -p "$(dirname "$root/$1")" && cat >"$root/$1"; }
put etc/hostname <<<'trial'
put etc/fstab <<'F'
/dev/vda / ext4 rw 0 1
LABEL=trial /trial ext4 ro 0 0
F
mkdir -p "$root/trial"
# ifupdown takes the network away when it is stopped at shutdown; with networkd a wrong order would go unnoticed.
put etc/network/interfaces <<'F'
auto lo
iface lo inet loopback
auto eth0
iface eth0 inet static
    address 10.0.2.15/24
    gateway 10.0.2.2
F
put etc/cloud/cloud.cfg.d/90-trial.cfg <<'F'
datasource_list: [NoCloud]
network: {config: disabled}
# Those that the agent's user data asks something of; the others want a larger system.
cloud_init_modules: [write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [package-update-upgrade-install, scripts-user]
F
# What the units are told instead of EC2's own addresses.
for unit in eipwatch-agent eipwatch-agent-leave; do
    put "etc/systemd/system/$unit.service.d/stand-in.conf" <<'F'
[Unit]
RequiresMountsFor=/trial
[Service]
EnvironmentFile=/trial/environment
F
done
put usr/local/bin/ok <<'F'
#!/bin/sh
exit 0
F
chmod 755 "$root/usr/local/bin/ok"
put srv/health <<<'fine'
put etc/systemd/system/trial-web.service <<'F'
[Unit]
Description=A service for the agent to check
RequiresMountsFor=/trial
After=network-online.target
Wants=network-online.target
[Service]
DynamicUser=yes
EnvironmentFile=/trial/environment
ExecStart=/usr/bin/python3 -m http.server 8080 --directory /srv
ExecStop=/usr/bin/curl -sS --max-time 5 --data "the service stops" ${STAND_IN}/trial/mark
[Install]
WantedBy=multi-user.target
F
put etc/systemd/system/trial.service <<'F'
[Unit]
Description=The trial
RequiresMountsFor=/trial
After=network-online.target
Wants=network-online.target
[Service]
EnvironmentFile=/trial/environment
Environment=PYTHONUNBUFFERED=1
ExecStart=/usr/bin/python3 /trial/guest.py
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
F
chroot "$root" systemctl --quiet enable trial.service trial-web.service
# A machine like any other, but one that boots sooner.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
rm -f "$root/etc/machine-id" && touch "$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale}

cp "$root"/boot/vmlinuz-* "$kernel"
cp "$root"/boot/initrd.img-* "$initrd"
rm -f "$image"
mke2fs -q -t ext4 -d "$root" "$image" 2G
