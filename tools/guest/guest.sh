# SPDX-License-Identifier: GPL-2.0
#
# What the host's commands are made of. Sourced by init.

PCI=/sys/bus/pci
DEBUG=/sys/kernel/debug
TRACING=/sys/kernel/tracing

# load <module> [parameter=value...]: with what it depends on; built in counts
# as loaded
load() {
	wanted=$1
	shift
	for file in $(cat "/modules/$wanted.order"); do
		name=$(basename "$file" .ko | tr - _)
		[ -d "/sys/module/$name" ] && continue
		more=
		[ "$name" = "$wanted" ] && more=$*
		insmod "/modules/$file" $more || return
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

# programs: those of the host, read only; busybox goes before them, so what it
# has as well needs its path
programs() {
	mkdir -p /usr /etc
	mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 \
		usr /usr || return
	[ -e /lib64 ] || ln -s usr/lib64 /lib64
}

# disk_now <pci-name> <nsid>: the block device of a namespace, if there is one.
# A sample's disk is a child of the PCI device and has the namespace in its name;
# the kernel's is one of a controller in between, and has it in a file.
disk_now() {
	for dir in $PCI/devices/$1/block/*n$2; do
		[ -b "/dev/${dir##*/}" ] && { echo "/dev/${dir##*/}"; return 0; }
	done
	for dir in $PCI/devices/$1/nvme/nvme*/nvme*n*; do
		[ "$(cat "$dir/nsid" 2>/dev/null)" = $2 ] || continue
		[ -b "/dev/${dir##*/}" ] && { echo "/dev/${dir##*/}"; return 0; }
	done
	return 1
}

# disk <pci-name> [nsid]: the same; it appears a moment after the probe
disk() {
	tries=0
	while [ $tries -lt 100 ]; do
		disk_now $1 ${2:-1} && return 0
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

# sums <device> <offset> <length>...: SHA-256 of runs of bytes of it. Not through
# the cache, and the memory is not at the start of a page.
sums() {
	dev=$1
	files=
	shift
	while [ $# -gt 1 ]; do
		file=/tmp/sums.${dev##*/}.$#
		dd if=$dev of=$file bs=$2 skip=$1 count=1 \
			iflag=direct,skip_bytes 2>/dev/null || return
		files="$files $file"
		shift 2
	done
	sha256sum $files | cut -c-64
	rm $files
}

# scribble <device> <offset> <length>...: other random bytes at each place, and
# their SHA-256. DD_FLAG and DD_CONV are more of dd's flags: ",direct", ",fsync"
scribble() {
	dev=$1
	files=
	shift
	while [ $# -gt 1 ]; do
		file=/tmp/scribble.${dev##*/}.$#
		head -c $2 /dev/urandom >$file
		dd if=$file of=$dev bs=$2 seek=$1 count=1 conv=notrunc$DD_CONV \
			oflag=seek_bytes$DD_FLAG 2>/dev/null || return
		files="$files $file"
		shift 2
	done
	sha256sum $files | cut -c-64
	rm $files
}

# scribble_direct <device> <offset> <length>...: the same, past the cache
scribble_direct() {
	DD_FLAG=,direct scribble "$@"
}

# node <device>: wait for it
node() {
	tries=0
	until [ -b $1 ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "no $1"; return 1; }
		usleep 50000
	done
}

# fill <directory> <files>: small files, a large one, holes, and holes among them
fill() {
	mkdir $1/many && cp -r /modules $1 || return
	n=0
	while [ $n -lt $2 ]; do
		echo "file $n of $2 in $1: $RANDOM" >$1/many/$n
		n=$((n + 1))
	done
	head -c 3000001 /dev/urandom >$1/large
	dd if=$1/large of=$1/direct bs=64k count=10 oflag=direct 2>/dev/null
	dd if=$1/large of=$1/holes bs=5000 count=9 seek=400 2>/dev/null
	rm $1/many/*3 $1/many/*7
}

# tree_sum <directory>: SHA-256 of all names and files
tree_sum() {
	(cd $1 && find . -type f | sort | xargs sha256sum) |
		sha256sum | cut -d' ' -f1
}

# on_each <device> <command>...: run it in the file system of each partition
on_each() {
	dev=$1
	shift
	for kind in ext4 xfs; do
		part=${dev}p1
		[ $kind = xfs ] && part=${dev}p2
		at=/tmp/on.${part##*/}
		mkdir -p $at && mount -t $kind $part $at || return
		"$@" $at $kind $part
		code=$?
		umount $at || return
		[ $code = 0 ] || return $code
	done
}

# make_filesystems <device> <files>: partitions, ext4 and xfs, files; then the sum
# of each
make_filesystems() {
	# It tells of file systems that were there before, however quiet it is.
	said=$(printf 'label: gpt\nsize=64MiB\nsize=320MiB\n' |
		sfdisk -q --wipe always $1 2>&1) || { echo "$said"; return 1; }
	node ${1}p1 && node ${1}p2 || return
	mkfs.ext4 -q -F ${1}p1 && mkfs.xfs -q -f ${1}p2 || return
	files=$2
	filled() { fill $1 $files && tree_sum $1; }
	on_each $1 filled
}

# change_filesystems <device>: some files move, grow, come and go; then the sums
change_filesystems() {
	changed() {
		mv $1/many $1/more && mkdir $1/many && mv $1/more/*[02468] $1/many &&
			rm -r $1/more && cp $1/holes $1/many/1000 &&
			head -c 700001 /dev/urandom >>$1/large && tree_sum $1
	}
	on_each $1 changed
}

# read_filesystems <device>: the sums; then each is checked
read_filesystems() {
	node ${1}p1 && node ${1}p2 || return
	on_each $1 tree_sum || return
	e2fsck -fn ${1}p1 >/tmp/fsck.${1##*/} 2>&1 &&
		xfs_repair -n ${1}p2 >>/tmp/fsck.${1##*/} 2>&1
	code=$?
	[ $code = 0 ] || cat /tmp/fsck.${1##*/}
	return $code
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

# peer_io <read|write> <device> <pci-name> <offset> <length>: from the device to the
# memory that a controller lends, or back; then SHA-256 of what is in that memory.
# Written are random bytes.
peer_io() {
	python3 -c '
import hashlib, mmap, os, sys
verb, device, peer, offset, length = sys.argv[1:]
lent = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
memory = mmap.mmap(lent, int(length))
disk = os.open(device, os.O_DIRECT | (os.O_WRONLY if verb == "write" else 0))
if verb == "write":
    memory[:] = os.urandom(len(memory))
move = os.preadv if verb == "read" else os.pwritev
try:
    moved = move(disk, [memory], int(offset))
except OSError as error:
    sys.exit(f"{verb}: {error.strerror}")
if moved != len(memory):
    sys.exit(f"{verb}: {moved} bytes of {length}")
print(hashlib.sha256(memory[:]).hexdigest())
' "$@"
}

# traced <command>...: run it; before what it says a line with the routes of all
# maps meanwhile, each once
traced() {
	echo >$TRACING/trace
	for event in dma_phys_map dma_phys_vec_map; do
		echo 1 >$TRACING/events/dma_phys/$event/enable
	done
	"$@" >/tmp/traced 2>&1
	code=$?
	for event in dma_phys_map dma_phys_vec_map; do
		echo 0 >$TRACING/events/dma_phys/$event/enable
	done
	echo routes $(sed -n 's/.* route=\([a-z]*\) .* err=0$/\1/p' \
		$TRACING/trace | sort -u)
	cat /tmp/traced
	return $code
}

# later <name> <line>: run it beside what follows
later() {
	rm -f /tmp/$1.code
	(
		eval "$2" >/tmp/$1.out 2>&1 </dev/null
		echo $? >/tmp/$1.now
		mv /tmp/$1.now /tmp/$1.code
	) &
}

# ended <name> <seconds>: what it said, once it has ended, and as it did
ended() {
	tries=$(($2 * 20))
	until [ -e /tmp/$1.code ]; do
		[ $tries -gt 0 ] || { echo "$1 does not end"; return 124; }
		tries=$((tries - 1))
		usleep 50000
	done
	cat /tmp/$1.out
	return $(cat /tmp/$1.code)
}

# config_get <pci-name> <offset> <bytes>: of its configuration space, in hex
config_get() {
	dd if=$PCI/devices/$1/config bs=1 skip=$2 count=$3 2>/dev/null |
		hexdump -v -e '1/1 "%02x"'
}

# config_set <pci-name> <offset> <hex>
config_set() {
	printf "$(echo $3 | sed 's/../\\x&/g')" |
		dd of=$PCI/devices/$1/config bs=${#3} seek=$2 oflag=seek_bytes \
			conv=notrunc 2>/dev/null
}

# capability <pci-name> <id>: where it is in its configuration space; id in hex
capability() {
	at=$((0x$(config_get $1 52 1)))
	while [ $at != 0 ]; do
		[ $(config_get $1 $at 1) = $2 ] && { echo $at; return 0; }
		at=$((0x$(config_get $1 $((at + 1)) 1)))
	done
	return 1
}

# carry <program>...: the programs of the host move into memory, and 9p goes,
# which cannot sleep
carry() {
	for program; do
		/lib64/ld-linux-x86-64.so.2 --list $program |
			sed -n 's/.* => \([^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'
		echo $program
	done | sort -u | while read -r file; do
		file=/usr${file#/usr}
		mkdir -p /tmp/carried${file%/*} &&
			cp $file /tmp/carried$file || return
	done
	umount /usr && mount --bind /tmp/carried/usr /usr || return
	for dev in $(named 0x1af4 0x1009) $(named 0x1af4 0x1049); do
		unbind $dev
	done
}

# busy <device> <count>: wait until it has done so many more requests
busy() {
	stat=/sys/block/${1##*/}/stat
	read -r reads _ _ _ writes _ <$stat || return
	enough=$((reads + writes + $2))
	tries=1500
	while [ $((reads + writes)) -lt $enough ]; do
		[ $tries -gt 0 ] || { echo "$1 has nothing to do"; return 1; }
		tries=$((tries - 1))
		usleep 20000
		read -r reads _ _ _ writes _ <$stat || return
	done
}

# rounds <driver> <pci-name> <count>: take the driver away and bring it back,
# each time when its disk has work
rounds() {
	n=0
	while [ $n -lt $3 ]; do
		name=$(disk $2) && busy $name 20 && unbind $2 && bind $1 $2 ||
			{ echo "in round $n"; return 1; }
		n=$((n + 1))
	done
}

# one_after_another <device> <count>: a fio that begins anew when the disk is back,
# so often, or until there is /tmp/enough
one_after_another() {
	# A file, for a semicolon begins a comment of fio's.
	echo "until [ -b $1 -o -e /tmp/enough ]; do usleep 20000; done" \
		>/tmp/its_disk
	(
		echo [global]
		echo filename=$1
		cat <<-END
			exec_prerun=sh /tmp/its_disk
			rw=randrw
			bs=4k
			iodepth=16
			ioengine=libaio
			direct=1
			time_based
			runtime=600
			thread
		END
		n=0
		while [ $n -lt $2 ]; do
			echo "[$n]"
			echo stonewall
			n=$((n + 1))
		done
	) >/tmp/one_after_another
	fio --output-format=json --output=/tmp/one_after_another.json \
		/tmp/one_after_another
}

# scattered <file> <bytes>...: files in memory of which no page lies behind the one
# that is before it in the file
scattered() {
	python3 -c '
import sys
for name, length in zip(sys.argv[1::2], sys.argv[2::2]):
    with open(name, "wb") as file:
        pages = range(0, int(length), 4096)
        for at in [*pages[::2], *pages[1::2]]:
            file.seek(at)
            file.write(bytes(4096))
' "$@"
}

# marks: from now on the jobs of points stop before they begin and after they have
# ended, for the host to have a look while the guest has nothing to do
marks() {
	mkfifo /tmp/marked /tmp/go &&
		echo 'echo >/tmp/marked; read -r _ </tmp/go' >/tmp/mark
}

# points <device> <jobs> <memory>...: fio does the jobs of a file. It removes the
# memory that it uses, so each job gets another name for it.
points() {
	export DISK=$1
	jobs=$2
	shift 2
	for memory; do
		ln -f $memory $memory.few && ln -f $memory $memory.many || return
	done
	mkdir -p /tmp/points && cd /tmp/points &&
		fio --minimal --eta=never --output=out $jobs
}

# measure <driver> <turns> <order>...: each order to a benchmark so many turns; for
# each turn a line: what it took, or why it could not
measure() {
	run=$DEBUG/$1/run
	turns=$2
	shift 2
	for order; do
		n=0
		while [ $n -lt $turns ]; do
			echo "$order" >$run && read -r said <$run && echo "$said"
			n=$((n + 1))
		done
	done
	return 0
}
