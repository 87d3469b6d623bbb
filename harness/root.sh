# shellcheck shell=bash
# shellcheck disable=SC2016 # the quoted commands are for another shell
# SPDX-License-Identifier: GPL-2.0
# The tool root: a Debian tree in the cache with compilers, QEMU and kernel source.
# Sourced by run, which sets $here (the checkout) and $cache.
#
# The tree is made under a temporary name and renamed when it is complete. All mounts
# are in a mount namespace of the command, so none exists after the command, and
# removing a tree cannot remove what is mounted in it.

suite=trixie

say() {
	echo "run: $*" >&2
}

die() {
	say "$*"
	exit 1
}

# short_path PATH: PATH with ~ instead of the home directory.
short_path() {
	case ${HOME:-} in
	/?*) echo "${1/#"$HOME/"/\~/}" ;;
	*) echo "$1" ;;
	esac
}

# The prefix of commands that need root and a mount namespace.
if ((EUID == 0)); then
	as_root=(unshare --mount)
else
	as_root=(unshare --user --map-root-user --map-auto --mount)
fi

# cache_open: make the cache and lock it, shared, until the run ends.
cache_open() {
	((EUID == 0)) || need_user_namespaces
	mkdir -p "$cache"/{root,log} 2>/dev/null ||
		die "cannot write to $cache; set DMA_PHYS_CACHE"
	cache=$(cd "$cache" && pwd -P)
	exec {cache_lock}>>"$cache/lock"
	flock --shared --nonblock "$cache_lock" ||
		die "the cache is being cleaned by another run; try again"
}

need_user_namespaces() {
	command -v newuidmap >/dev/null ||
		die "without root this needs uidmap and mmdebstrap: sudo apt install uidmap mmdebstrap"
	"${as_root[@]}" true 2>/dev/null ||
		die "$(id -un) cannot make user namespaces with subordinate ids (see /etc/subuid); run as root"
}

need_mmdebstrap() {
	command -v mmdebstrap >/dev/null && return
	((EUID == 0)) ||
		die "mmdebstrap is missing: sudo apt install mmdebstrap uidmap"
	step "installing mmdebstrap" "$cache/log/apt.log" install_mmdebstrap
}

install_mmdebstrap() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -y --no-install-recommends mmdebstrap ||
		{ apt-get update && apt-get install -y --no-install-recommends mmdebstrap; }
}

# recipe TARGET: make the tree. The key of the tree is made from this function and
# from harness/packages.
recipe() {
	local include foreign="arm64 armhf ppc64el"
	include=$(grep -v '^#' "$here/harness/packages" | paste -sd,)
	# The backports line is made from the one mmdebstrap wrote, so that the
	# mirror is the user's. Guests of another architecture need its busybox, and
	# no list but that of the suite.
	exec mmdebstrap --mode=root --variant=apt --verbose --dpkgopt=force-unsafe-io --include="$include" \
		--customize-hook='sed -n "s/ '$suite' / '$suite'-backports /p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"' \
		--customize-hook='sed -i "/ '$suite' /!s/^deb /deb [arch=$(chroot "$1" dpkg --print-architecture)] /" "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.list' \
		--customize-hook='for arch in '"$foreign"'; do chroot "$1" dpkg --add-architecture $arch; done' \
		--customize-hook='chroot "$1" apt-get update' \
		--customize-hook='chroot "$1" apt-get install -y --no-install-recommends -t '$suite'-backports linux-source' \
		--customize-hook='mkdir "$1/usr/lib/dma-phys"; for arch in '"$foreign"'; do chroot "$1" sh -c "cd /tmp && apt-get download busybox-static:$arch && dpkg-deb -x busybox-static_*_$arch.deb /usr/lib/dma-phys/$arch && rm busybox-static_*"; done' \
		--customize-hook='mkdir -p "$1/dma-phys" "$1/cache" "$1/kernel-src"' \
		"$suite" "$1"
}

root_key() {
	{
		((EUID == 0)) && echo root || echo user
		echo "$suite"
		sed -n '/^recipe/,/^}/p' "$here/harness/root.sh"
		cat "$here/harness/packages"
	} | sha256sum | cut -c1-16
}

# root_make: set $root, and make the tree if it does not exist.
root_make() {
	local lock new

	root=$cache/root/$(root_key)
	[[ ! -d $root ]] || return 0

	exec {lock}>>"$cache/root.lock"
	flock --nonblock "$lock" || {
		say "another run is making the tool root; waiting for it"
		flock "$lock"
	}
	if [[ ! -d $root ]]; then
		need_mmdebstrap
		new=$root.new
		"${as_root[@]}" rm -rf --one-file-system "$new"
		step "making the tool root (Debian $suite)" "$cache/log/root.log" \
			in_namespace "$new"
		# If the machine crashes, the name must not exist without its files.
		sync -f "$new"
		mv -T "$new" "$root"
	fi
	exec {lock}>&-
}

in_namespace() {
	export here suite
	export -f recipe
	# mmdebstrap ignores signals. In a PID namespace all of it ends with its
	# first process, and that one ends with us, even if we are killed.
	exec setpriv --pdeathsig KILL "${as_root[@]}" --pid --fork --kill-child \
		bash -euo pipefail -c 'recipe "$1"' - "$1"
}

# step WHAT LOG COMMAND...: run COMMAND with its output in LOG, and print progress.
step() {
	local what=$1 log=$2 status=0 start=$SECONDS last=$SECONDS worker

	("${@:3}") >"$log" 2>&1 </dev/null &
	worker=$!
	# The worker must not outlive us.
	trap 'kill -KILL "$worker" || :; wait "$worker" || :; exit 130' INT TERM HUP
	[[ -t 2 ]] || say "$what"
	while kill -0 "$worker" 2>/dev/null; do
		if [[ -t 2 ]]; then
			printf '\r\033[K%s: %s' "$what" "$(progress "$log" "$start")" >&2
		elif ((SECONDS - last >= 30)); then
			last=$SECONDS
			say "$what: $(progress "$log" "$start")"
		fi
		sleep 0.5
	done
	wait "$worker" || status=$?
	trap - INT TERM HUP
	[[ ! -t 2 ]] || printf '\r\033[K' >&2
	if ((status)); then
		say "$what failed; the end of $log:"
		grep -E '^[EW]: |[Ee]rror|[Ff]ailed' "$log" | tail -n 8 >&2 || tail -n 8 "$log" >&2
		exit 1
	fi
	say "$what: done in $(elapsed "$start")"
}

# elapsed START: the time since then as minutes:seconds.
elapsed() {
	printf '%d:%02d' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60))
}

# progress LOG START: the packages that apt and dpkg have done, and elapsed time.
progress() {
	awk -v elapsed="$(elapsed "$2")" '
		/ newly installed, /	{ sub(/.*upgraded, /, ""); all += $1 }
		/^Unpacking /		{ unpacked++ }
		/^Setting up /		{ done++ }
		END {
			if (all)
				printf "%d packages, %d unpacked, %d set up, ",
					all, unpacked, done
			print elapsed
		}' "$1"
}

# root_enter COMMAND...: exec COMMAND inside the tool root, in the checkout.
root_enter() {
	local variable pass=()

	for variable in "${!DMA_PHYS_@}"; do
		pass+=("$variable=${!variable}")
	done
	pass+=(DMA_PHYS_CACHE=/cache)
	# Pass nothing else of the environment: CC or MAKEFLAGS would change the build.
	exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		TERM="${TERM:-dumb}" PYTHONDONTWRITEBYTECODE=1 "${pass[@]}" \
		DMA_PHYS_HOST_CACHE="$cache" DMA_PHYS_HOST_REPO="$here" \
		DMA_PHYS_HOST_KERNEL_SRC="${KERNEL_SRC:-}" \
		"${as_root[@]}" bash -euo pipefail -c '
			root=$1 && shift
			bind_ro() {
				mount --bind "$1" "$2"
				# Without root a remount must keep the flags of the file system.
				flags=$(findmnt -n -o VFS-OPTIONS -T "$2" | tail -n 1)
				mount -o "remount,bind,${flags/#rw/ro}" "$2"
			}
			mount --rbind /proc "$root/proc"
			mount --rbind /sys "$root/sys"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs tmpfs "$root/tmp"
			mount --bind "$DMA_PHYS_HOST_CACHE" "$root/cache"
			bind_ro "$DMA_PHYS_HOST_REPO" "$root/dma-phys"
			if [[ -n $DMA_PHYS_HOST_KERNEL_SRC ]]; then
				bind_ro "$DMA_PHYS_HOST_KERNEL_SRC" "$root/kernel-src"
			fi
			exec chroot "$root" env --chdir=/dma-phys "$@"
		' - "$root" "$@"
}

# cache_clean: remove what was made in the cache, but no other file in it.
cache_clean() {
	local name

	[[ -d $cache ]] || { say "there is no cache $cache"; return; }
	cache=$(cd "$cache" && pwd -P)
	exec {cache_lock}>>"$cache/lock"
	flock --nonblock "$cache_lock" || die "another run is using $cache"
	for name in bench build docs module tree root initramfs log root.lock \
		kernel-{tree,base,debug,arm64,arm64-tags,arm,ppc64le}.lock; do
		[[ -e $cache/$name ]] || continue
		say "removing $(short_path "$cache/$name")"
		"${as_root[@]}" rm -rf --one-file-system "${cache:?}/$name"
	done
	rm -f "$cache/lock"
	rmdir --ignore-fail-on-non-empty "$cache"
}
