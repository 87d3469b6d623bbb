/* SPDX-License-Identifier: GPL-2.0 */
/* As much of the kernel's types as dma-phys.h needs, on a 64-bit machine. */
#ifndef _LINUX_TYPES_H
#define _LINUX_TYPES_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u64 phys_addr_t;
typedef u64 dma_addr_t;

struct list_head {
	struct list_head *next, *prev;
};

#define __always_inline inline
#define noinline
#define __maybe_unused
#define likely(what) (what)
#define unlikely(what) (what)

#endif /* _LINUX_TYPES_H */
