# shellcheck shell=bash
# shellcheck disable=SC2016 # what is quoted here is for another shell
# SPDX-License-Identifier: GPL-2.0
# The tool root: a Debian tree in the cache with compiler, QEMU and kernel source.
# Sourced by run, which sets $here (the checkout) and $cache.
#
# The tree is made under a temporary name and renamed when complete. All mounts
# are made in a mount namespace of our own, so none outlives the command, and
# removing a tree cannot reach through one.

suite=trixie

say() {
	echo "run: $*" >&2
}

die() {
	say "$*"
	exit 1
}

# shown: a path as a person writes it.
shown() {
	case ${HOME:-} in
	/?*) echo "${1/#"$HOME/"/\~/}" ;;
	*) echo "$1" ;;
	esac
}

# The prefix that makes us root with mounts of our own.
if ((EUID == 0)); then
	as_root=(unshare --mount)
else
	as_root=(unshare --user --map-root-user --map-auto --mount)
fi

# cache_open: make the cache; our lock on it, shared, lasts as long as the run.
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
		die "as a user this needs uidmap and mmdebstrap: sudo apt install uidmap mmdebstrap"
	"${as_root[@]}" true 2>/dev/null ||
		die "no user namespace with subordinate ids for $(id -un) here (see /etc/subuid); run as root"
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

# recipe TARGET: its text and tools/packages name the tree.
recipe() {
	local include
	include=$(grep -v '^#' "$here/tools/packages" | paste -sd,)
	# The backports line is made from the one mmdebstrap wrote, so that the
	# mirror is the user's.
	exec mmdebstrap --mode=root --variant=apt --verbose --dpkgopt=force-unsafe-io --include="$include" \
		--customize-hook='sed -n "s/ '$suite' / '$suite'-backports /p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"' \
		--customize-hook='chroot "$1" apt-get update' \
		--customize-hook='chroot "$1" apt-get install -y --no-install-recommends -t '$suite'-backports linux-source' \
		--customize-hook='mkdir -p "$1/dma-phys" "$1/cache" "$1/kernel-src"' \
		"$suite" "$1"
}

root_key() {
	{
		((EUID == 0)) && echo root || echo user
		echo "$suite"
		sed -n '/^recipe/,/^}/p' "$here/tools/root.sh"
		cat "$here/tools/packages"
	} | sha256sum | cut -c1-16
}

# root_make: sets $root, and makes it where it is not yet.
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
		# A crash of the machine must not leave a name without its files.
		sync -f "$new"
		mv -T "$new" "$root"
	fi
	exec {lock}>&-
}

in_namespace() {
	export here suite
	export -f recipe
	# mmdebstrap is deaf to signals. In a process namespace all of it ends with
	# its first process, and that one with us, even if we die without warning.
	exec setpriv --pdeathsig KILL "${as_root[@]}" --pid --fork --kill-child \
		bash -euo pipefail -c 'recipe "$1"' - "$1"
}

# step WHAT LOG COMMAND...: run it with its output in the log, and say how far it is.
step() {
	local what=$1 log=$2 status=0 began=$SECONDS told=$SECONDS worker

	("${@:3}") >"$log" 2>&1 </dev/null &
	worker=$!
	# Our own death must not leave the worker behind.
	trap 'kill -KILL "$worker" || :; wait "$worker" || :; exit 130' INT TERM HUP
	[[ -t 2 ]] || say "$what"
	while kill -0 "$worker" 2>/dev/null; do
		if [[ -t 2 ]]; then
			printf '\r\033[K%s: %s' "$what" "$(how_far "$log" "$began")" >&2
		elif ((SECONDS - told >= 30)); then
			told=$SECONDS
			say "$what: $(how_far "$log" "$began")"
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
	say "$what: done in $(elapsed "$began")"
}

elapsed() {
	printf '%d:%02d' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60))
}

# how_far LOG BEGAN: what apt and dpkg have done of what they announced.
how_far() {
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

# root_enter COMMAND...: become the command, inside the root, in the checkout.
root_enter() {
	local variable pass=()

	for variable in "${!DMA_PHYS_@}"; do
		pass+=("$variable=${!variable}")
	done
	pass+=(DMA_PHYS_CACHE=/cache)
	# Nothing else of our environment: a CC or MAKEFLAGS set there is not meant
	# for this build.
	exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		TERM="${TERM:-dumb}" PYTHONDONTWRITEBYTECODE=1 "${pass[@]}" \
		DMA_PHYS_HOST_CACHE="$cache" DMA_PHYS_HOST_REPO="$here" \
		DMA_PHYS_HOST_KERNEL_SRC="${KERNEL_SRC:-}" \
		"${as_root[@]}" bash -euo pipefail -c '
			root=$1 && shift
			bind_ro() {
				mount --bind "$1" "$2"
				# A user must keep the flags that the file system has.
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

# cache_clean: what we made, and nothing else that may lie there.
cache_clean() {
	local name

	[[ -d $cache ]] || { say "nothing in $cache"; return; }
	cache=$(cd "$cache" && pwd -P)
	exec {cache_lock}>>"$cache/lock"
	flock --nonblock "$cache_lock" || die "another run is using $cache"
	for name in bench build docs tree root initramfs log root.lock \
		kernel-{tree,base,debug}.lock; do
		[[ -e $cache/$name ]] || continue
		say "removing $(shown "$cache/$name")"
		"${as_root[@]}" rm -rf --one-file-system "${cache:?}/$name"
	done
	rm -f "$cache/lock"
	rmdir --ignore-fail-on-non-empty "$cache"
}
