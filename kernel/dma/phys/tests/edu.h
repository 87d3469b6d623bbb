/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The PCI devices of QEMU that tests use. "edu" copies bytes between memory and
 * a buffer of its own. "ivshmem-plain" has a BAR that is plain memory.
 */
#ifndef _KERNEL_DMA_PHYS_TESTS_EDU_H
#define _KERNEL_DMA_PHYS_TESTS_EDU_H

#include <linux/bits.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/sizes.h>
#include <linux/swab.h>
#include <linux/time64.h>
#include <linux/types.h>

#define EDU_VENDOR_ID		0x1234
#define EDU_DEVICE_ID		0x11e8

#define EDU_BAR			0
#define EDU_BAR_SIZE		SZ_1M

/* Registers; those of the DMA engine have 64 bits. */
#define EDU_ID			0x00
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98

#define EDU_ID_MASK		0xffff
#define EDU_ID_VALUE		0x00ed

#define EDU_CMD_RUN		BIT(0)
#define EDU_CMD_TO_MEMORY	BIT(1)

/* Its buffer, as its DMA engine addresses it; a transfer is not larger. */
#define EDU_BUF_ADDR		0x40000
#define EDU_BUF_SIZE		SZ_4K

/* What it addresses unless dma_mask= of QEMU's command line says more. */
#define EDU_DEFAULT_BITS	28

/* It takes 100 ms for a transfer; on a busy host longer. */
#define EDU_POLL_US		1000
#define EDU_TIMEOUT_US		(20 * USEC_PER_SEC)

/* ivshmem-plain: vendor PCI_VENDOR_ID_REDHAT_QUMRANET */
#define IVSHMEM_DEVICE_ID	0x1110
#define IVSHMEM_BAR		2

/*
 * QEMU gives its registers the byte order in which the processor starts: on
 * PowerPC that is big-endian, for a kernel that is little-endian as well.
 */
static inline u64 edu_order(u64 value)
{
	return IS_ENABLED(CONFIG_PPC) ? swab64(value) : value;
}

static inline u64 edu_read(u8 __iomem *reg)
{
	return edu_order(readq(reg));
}

static inline void edu_write(u64 value, u8 __iomem *reg)
{
	writeq(edu_order(value), reg);
}

/* False if the device was unplugged, or is another one. */
static inline bool edu_present(u8 __iomem *regs)
{
	u32 id = readl(regs + EDU_ID);

	if (IS_ENABLED(CONFIG_PPC))
		id = swab32(id);
	return (id & EDU_ID_MASK) == EDU_ID_VALUE;
}

/*
 * Start copying @len bytes from the buffer to @addr, or from @addr to the
 * buffer. @regs is EDU_BAR; bus mastering is on.
 */
static inline void edu_start(u8 __iomem *regs, u64 addr, size_t len,
			     bool to_memory)
{
	edu_write(to_memory ? EDU_BUF_ADDR : addr, regs + EDU_DMA_SRC);
	edu_write(to_memory ? addr : EDU_BUF_ADDR, regs + EDU_DMA_DST);
	edu_write(len, regs + EDU_DMA_COUNT);
	edu_write(EDU_CMD_RUN | (to_memory ? EDU_CMD_TO_MEMORY : 0),
		  regs + EDU_DMA_CMD);
}

/* Sleeps until it has finished. Returns 0 or -ETIMEDOUT. */
static inline int edu_wait(u8 __iomem *regs)
{
	u64 cmd;

	return read_poll_timeout(edu_read, cmd, !(cmd & EDU_CMD_RUN),
				 EDU_POLL_US, EDU_TIMEOUT_US, false,
				 regs + EDU_DMA_CMD);
}

static inline int edu_transfer(u8 __iomem *regs, u64 addr, size_t len,
			       bool to_memory)
{
	edu_start(regs, addr, len, to_memory);
	return edu_wait(regs);
}

#endif /* _KERNEL_DMA_PHYS_TESTS_EDU_H */
