# SPDX-License-Identifier: GPL-2.0
#
# What the host's commands are made of. Sourced by init.

PCI=/sys/bus/pci
DEBUG=/sys/kernel/debug

# load <module>: with what it depends on; built in counts as loaded
load() {
	for file in $(cat "/modules/$1.order"); do
		name=$(basename "$file" .ko)
		[ -d "/sys/module/$(echo "$name" | tr - _)" ] && continue
		insmod "/modules/$file" || return
	done
}

# controllers: the PCI names of the NVMe controllers, in bus order
controllers() {
	for dev in $PCI/devices/*; do
		[ "$(cat $dev/class)" = 0x010802 ] && basename $dev
	done
	return 0
}

# driver <pci-name>: who holds the device, or nothing
driver() {
	[ -e $PCI/devices/$1/driver ] || return 0
	basename "$(readlink $PCI/devices/$1/driver)"
}

# unbind <pci-name>
unbind() {
	[ -e $PCI/devices/$1/driver ] || return 0
	echo $1 >$PCI/devices/$1/driver/unbind
}

# bind <driver> <pci-name>...: take the devices from whoever has them
bind() {
	want=$1
	shift
	for dev; do
		unbind $dev || return
		echo $want >$PCI/devices/$dev/driver_override
		echo $dev >$PCI/drivers_probe
		got=$(driver $dev)
		[ "$got" = $want ] && continue
		echo "$dev: wanted $want, driver is '$got'"
		return 1
	done
}

# order <driver> <pci-name> <line>: one command of a sample driver, then the
# result it left
order() {
	dir=$DEBUG/$1/$2
	[ -d $dir ] || { echo "no $dir"; return 1; }
	echo "$3" >$dir/command
	code=$?
	cat $dir/result
	return $code
}

# disk <pci-name>: the block device of a controller that the kernel's own
# driver holds; it appears a moment after the probe
disk() {
	tries=0
	while [ $tries -lt 100 ]; do
		for dir in $PCI/devices/$1/nvme/nvme*/nvme*n1; do
			name=$(basename $dir)
			[ -b /dev/$name ] && { echo /dev/$name; return 0; }
		done
		tries=$((tries + 1))
		usleep 100000
	done
	echo "no block device of $1"
	return 1
}

# disk_sum <device>: SHA-256 of all of it
disk_sum() {
	dd if=$1 bs=64k iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1
}

# leaks: what kmemleak suspects; objects younger than five seconds are exempt,
# and only what two scans agree on is worth reporting
leaks() {
	[ -e $DEBUG/kmemleak ] || return 0
	sleep 6
	echo scan >$DEBUG/kmemleak
	echo scan >$DEBUG/kmemleak
	cat $DEBUG/kmemleak
}

# live_maps: what CONFIG_DMA_PHYS_DEBUG, where it is on, knows to be mapped
live_maps() {
	[ -e $DEBUG/dma_phys/maps ] || return 0
	cat $DEBUG/dma_phys/maps
}

# dma_errors: how many errors DMA-API debugging has counted
dma_errors() {
	[ -e $DEBUG/dma-api/error_count ] || return 0
	cat $DEBUG/dma-api/error_count
}

# named <vendor> <device>: the PCI names of such devices, in bus order
named() {
	for dev in $PCI/devices/*; do
		[ "$(cat $dev/vendor) $(cat $dev/device)" = "$1 $2" ] &&
			basename $dev
	done
	return 0
}
