# SPDX-License-Identifier: GPL-2.0
#
# Functions for the commands of the host. Sourced by init and by ./run shell.

PCI=/sys/bus/pci
DEBUG=/sys/kernel/debug
TRACING=/sys/kernel/tracing

# load <module> [parameter=value...]: load a module and its dependencies, unless
# they are loaded or built in
load() {
	module=$1
	shift
	for file in $(cat "/modules/$module.order"); do
		name=$(basename "$file" .ko | tr - _)
		[ -d "/sys/module/$name" ] && continue
		parameters=
		[ "$name" = "$module" ] && parameters=$*
		insmod "/modules/$file" $parameters || return
	done
}

# controllers: the PCI names of the NVMe controllers, in bus order
controllers() {
	for dev in $PCI/devices/*; do
		[ "$(cat $dev/class)" = 0x010802 ] && basename $dev
	done
	return 0
}

# driver <pci-name>: the driver that is bound to the device, if any
driver() {
	[ -e $PCI/devices/$1/driver ] || return 0
	basename "$(readlink $PCI/devices/$1/driver)"
}

# unbind <pci-name>
unbind() {
	[ -e $PCI/devices/$1/driver ] || return 0
	echo $1 >$PCI/devices/$1/driver/unbind
}

# bind <driver> <pci-name>...: unbind other drivers from the devices, and bind this
# one
bind() {
	wanted=$1
	shift
	for dev; do
		unbind $dev || return
		echo $wanted >$PCI/devices/$dev/driver_override
		echo $dev >$PCI/drivers_probe
		bound=$(driver $dev)
		[ "$bound" = $wanted ] && continue
		echo "$dev: the driver is '$bound', not $wanted"
		return 1
	done
}

# driver_command <driver> <pci-name> <line>: write a command to a file of a sample
# driver in debugfs, and print the result
driver_command() {
	dir=$DEBUG/$1/$2
	[ -d $dir ] || { echo "no $dir"; return 1; }
	echo "$3" >$dir/command
	code=$?
	cat $dir/result
	return $code
}

# mount_usr: mount the host's /usr, read-only. Its programs come after those of
# busybox in PATH.
mount_usr() {
	mkdir -p /usr /etc
	mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 \
		usr /usr || return
	[ -e /lib64 ] || ln -s usr/lib64 /lib64
}

# disk_now <pci-name> <nsid>: the block device of a namespace, if there is one. The
# disk of a sample driver is a child of the PCI device and has the namespace in its
# name. The kernel's driver has a controller between them, and the namespace in a
# file.
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

# disk <pci-name> [nsid]: wait for the block device of a namespace
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

# disk_sum <device>: SHA-256 of the whole device
disk_sum() {
	dd if=$1 bs=64k iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1
}

# read_ranges <device> <offset> <length>...: SHA-256 of ranges of the device. Reads
# with O_DIRECT; each range has its own dd, whose buffer is not page-aligned.
read_ranges() {
	dev=$1
	files=
	shift
	while [ $# -gt 1 ]; do
		file=/tmp/read.${dev##*/}.$#
		dd if=$dev of=$file bs=$2 skip=$1 count=1 \
			iflag=direct,skip_bytes 2>/dev/null || return
		files="$files $file"
		shift 2
	done
	sha256sum $files | cut -c-64
	rm $files
}

# write_ranges <device> <offset> <length>...: write random data to ranges of the
# device, and print the SHA-256 of each. DD_FLAG and DD_CONV are appended to dd's
# oflag= and conv=, for example ",direct" and ",fsync".
write_ranges() {
	dev=$1
	files=
	shift
	while [ $# -gt 1 ]; do
		file=/tmp/write.${dev##*/}.$#
		head -c $2 /dev/urandom >$file
		dd if=$file of=$dev bs=$2 seek=$1 count=1 conv=notrunc$DD_CONV \
			oflag=seek_bytes$DD_FLAG 2>/dev/null || return
		files="$files $file"
		shift 2
	done
	sha256sum $files | cut -c-64
	rm $files
}

# write_ranges_direct <device> <offset> <length>...: the same, with O_DIRECT
write_ranges_direct() {
	DD_FLAG=,direct write_ranges "$@"
}

# wait_device <device>: wait until the block device exists
wait_device() {
	tries=0
	until [ -b $1 ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "no $1"; return 1; }
		usleep 50000
	done
}

# fill <directory> <files>: make small files, a large one and one with a hole, and
# remove some of the small ones
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

# tree_sum <directory>: SHA-256 of all file names and contents
tree_sum() {
	(cd $1 && find . -type f | sort | xargs sha256sum) |
		sha256sum | cut -d' ' -f1
}

# on_each_filesystem <device> <command>...: mount the file system of each partition,
# and run the command with the directory as an argument
on_each_filesystem() {
	dev=$1
	shift
	for kind in ext4 xfs; do
		part=${dev}p1
		[ $kind = xfs ] && part=${dev}p2
		dir=/tmp/mnt.${part##*/}
		mkdir -p $dir && mount -t $kind $part $dir || return
		"$@" $dir
		code=$?
		umount $dir || return
		[ $code = 0 ] || return $code
	done
}

# make_filesystems <device> <files>: make two partitions with ext4 and xfs, and files
# in them; print the sum of each
make_filesystems() {
	# Even with -q sfdisk prints the signatures that it wipes.
	output=$(printf 'label: gpt\nsize=64MiB\nsize=320MiB\n' |
		sfdisk -q --wipe always $1 2>&1) || { echo "$output"; return 1; }
	wait_device ${1}p1 && wait_device ${1}p2 || return
	mkfs.ext4 -q -F ${1}p1 && mkfs.xfs -q -f ${1}p2 || return
	files=$2
	fill_and_sum() { fill $1 $files && tree_sum $1; }
	on_each_filesystem $1 fill_and_sum
}

# change_filesystems <device>: move, extend, remove and add files; print the sums
change_filesystems() {
	change_and_sum() {
		mv $1/many $1/more && mkdir $1/many && mv $1/more/*[02468] $1/many &&
			rm -r $1/more && cp $1/holes $1/many/1000 &&
			head -c 700001 /dev/urandom >>$1/large && tree_sum $1
	}
	on_each_filesystem $1 change_and_sum
}

# read_filesystems <device>: print the sums, then run fsck
read_filesystems() {
	wait_device ${1}p1 && wait_device ${1}p2 || return
	on_each_filesystem $1 tree_sum || return
	e2fsck -fn ${1}p1 >/tmp/fsck.${1##*/} 2>&1 &&
		xfs_repair -n ${1}p2 >>/tmp/fsck.${1##*/} 2>&1
	code=$?
	[ $code = 0 ] || cat /tmp/fsck.${1##*/}
	return $code
}

# leaks: the reports of kmemleak. It exempts objects younger than five seconds, and
# a single scan has false reports.
leaks() {
	[ -e $DEBUG/kmemleak ] || return 0
	sleep 6
	echo scan >$DEBUG/kmemleak
	echo scan >$DEBUG/kmemleak
	cat $DEBUG/kmemleak
}

# live_maps: the list of maps of CONFIG_DMA_PHYS_DEBUG
live_maps() {
	[ -e $DEBUG/dma_phys/maps ] || return 0
	cat $DEBUG/dma_phys/maps
}

# dma_errors: the number of errors that CONFIG_DMA_API_DEBUG has counted
dma_errors() {
	[ -e $DEBUG/dma-api/error_count ] || return 0
	cat $DEBUG/dma-api/error_count
}

# find_pci <vendor> <device>: the PCI names of such devices, in bus order
find_pci() {
	for dev in $PCI/devices/*; do
		[ "$(cat $dev/vendor) $(cat $dev/device)" = "$1 $2" ] &&
			basename $dev
	done
	return 0
}

# peer_io <read|write> <device> <pci-name> <offset> <length>: read from the device
# into the CMB of a controller, or write random data from there; print the SHA-256 of
# that memory
peer_io() {
	python3 -c '
import hashlib, mmap, os, sys
verb, device, peer, offset, length = sys.argv[1:]
cmb = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
memory = mmap.mmap(cmb, int(length))
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

# trace_routes <command>...: run it; print a line with the routes of all maps during
# its run, then its output
trace_routes() {
	echo >$TRACING/trace
	for event in dma_phys_map dma_phys_sg_map; do
		echo 1 >$TRACING/events/dma_phys/$event/enable
	done
	"$@" >/tmp/traced 2>&1
	code=$?
	for event in dma_phys_map dma_phys_sg_map; do
		echo 0 >$TRACING/events/dma_phys/$event/enable
	done
	echo routes $(sed -n 's/.* route=\([a-z]*\) .* err=0$/\1/p' \
		$TRACING/trace | sort -u)
	cat /tmp/traced
	return $code
}

# start_job <name> <line>: run a line of shell in the background
start_job() {
	rm -f /tmp/$1.code
	(
		eval "$2" >/tmp/$1.out 2>&1 </dev/null
		echo $? >/tmp/$1.new
		mv /tmp/$1.new /tmp/$1.code
	) &
}

# wait_job <name> <seconds>: wait for its end, print its output, and return its exit
# code; 124 if it does not end
wait_job() {
	tries=$(($2 * 20))
	until [ -e /tmp/$1.code ]; do
		[ $tries -gt 0 ] || { echo "$1 does not end"; return 124; }
		tries=$((tries - 1))
		usleep 50000
	done
	cat /tmp/$1.out
	return $(cat /tmp/$1.code)
}

# config_get <pci-name> <offset> <bytes>: read PCI configuration space, in hex
config_get() {
	dd if=$PCI/devices/$1/config bs=1 skip=$2 count=$3 2>/dev/null |
		hexdump -v -e '1/1 "%02x"'
}

# config_set <pci-name> <offset> <hex>: write PCI configuration space
config_set() {
	printf "$(echo $3 | sed 's/../\\x&/g')" |
		dd of=$PCI/devices/$1/config bs=${#3} seek=$2 oflag=seek_bytes \
			conv=notrunc 2>/dev/null
}

# capability <pci-name> <id>: the offset of a PCI capability; id in hex
capability() {
	offset=$((0x$(config_get $1 52 1)))
	while [ $offset != 0 ]; do
		[ $(config_get $1 $offset 1) = $2 ] && { echo $offset; return 0; }
		offset=$((0x$(config_get $1 $((offset + 1)) 1)))
	done
	return 1
}

# copy_programs <program>...: copy programs of the host into memory and unmount its
# /usr: the 9p device does not support suspend
copy_programs() {
	for program; do
		/lib64/ld-linux-x86-64.so.2 --list $program |
			sed -n 's/.* => \([^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'
		echo $program
	done | sort -u | while read -r file; do
		file=/usr${file#/usr}
		mkdir -p /tmp/copied${file%/*} &&
			cp $file /tmp/copied$file || return
	done
	umount /usr && mount --bind /tmp/copied/usr /usr || return
	for dev in $(find_pci 0x1af4 0x1009) $(find_pci 0x1af4 0x1049); do
		unbind $dev
	done
}

# wait_busy <device> <count>: wait until the device has completed so many more
# requests
wait_busy() {
	stat=/sys/block/${1##*/}/stat
	read -r reads _ _ _ writes _ <$stat || return
	end=$((reads + writes + $2))
	tries=1500
	while [ $((reads + writes)) -lt $end ]; do
		[ $tries -gt 0 ] || { echo "$1 is idle"; return 1; }
		tries=$((tries - 1))
		usleep 20000
		read -r reads _ _ _ writes _ <$stat || return
	done
}

# rebind_rounds <driver> <pci-name> <count>: unbind the driver and bind it again, so
# many times, each time while its disk is busy
rebind_rounds() {
	n=0
	while [ $n -lt $3 ]; do
		name=$(disk $2) && wait_busy $name 20 && unbind $2 &&
			bind $1 $2 || { echo "in round $n"; return 1; }
		n=$((n + 1))
	done
}

# fio_series <device> <count>: run so many fio jobs, each once the disk exists; after
# /tmp/fio_series.stop exists, they no longer wait for it
fio_series() {
	# A script, since a semicolon begins a comment in a job file.
	echo "until [ -b $1 -o -e /tmp/fio_series.stop ]; do usleep 20000; done" \
		>/tmp/wait_disk
	(
		echo [global]
		echo filename=$1
		cat <<-END
			exec_prerun=sh /tmp/wait_disk
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
	) >/tmp/fio_series
	fio --output-format=json --output=/tmp/fio_series.json /tmp/fio_series
}

# make_scattered <file> <bytes>...: make files in tmpfs of which no page follows the
# page before it in physical memory
make_scattered() {
	python3 -c '
import sys
for name, length in zip(sys.argv[1::2], sys.argv[2::2]):
    with open(name, "wb") as file:
        pages = range(0, int(length), 4096)
        for offset in [*pages[::2], *pages[1::2]]:
            file.seek(offset)
            file.write(bytes(4096))
' "$@"
}

# make_marks: make /tmp/mark, a script that waits for the host. Jobs of run_fio_jobs
# run it at their start and at their end, so that the host can read counters while
# the guest is idle.
make_marks() {
	mkfifo /tmp/marked /tmp/go &&
		echo 'echo >/tmp/marked; read -r _ </tmp/go' >/tmp/mark
}

# run_fio_jobs <device> <job file> <memory>...: run the jobs. A job removes the file
# of its memory, so each job gets a hard link of its own.
run_fio_jobs() {
	export DISK=$1
	jobs=$2
	shift 2
	for memory; do
		ln -f $memory $memory.few && ln -f $memory $memory.many || return
	done
	mkdir -p /tmp/fio_jobs && cd /tmp/fio_jobs &&
		fio --minimal --eta=never --output=out $jobs
}

# measure <driver> <runs> <line>...: write each line to the file of a benchmark in
# debugfs, so many times; print the result of each run, or its error
measure() {
	run=$DEBUG/$1/run
	runs=$2
	shift 2
	for line; do
		n=0
		while [ $n -lt $runs ]; do
			echo "$line" >$run && read -r result <$run &&
				echo "$result"
			n=$((n + 1))
		done
	done
	return 0
}
