// SPDX-License-Identifier: GPL-2.0
/*
 * A minimal driver for QEMU's "edu": a device that copies bytes between memory
 * and a buffer of its own.
 *
 * When it is bound, it copies a source to a target and logs the result. The
 * source is from vmalloc(), and is mapped as a list of ranges. The target is
 * from kmalloc(), and is mapped as one range. edu_submit() maps both, and the
 * interrupt of the last transfer unmaps them. edu_remove() stops the device and
 * unmaps what is in flight.
 *
 * "./run demo" starts it, and samples/rust/rust_edu_phys.rs, the same driver in
 * Rust. edu_peer_phys.c copies in the memory of another device. The second
 * lesson is the NVMe driver, see nvme_phys/nvme_phys.h.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vmalloc.h>

/* Registers in BAR 0. */
#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_ACK	0x64
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_LEN	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_RUN	BIT(0)
#define EDU_CMD_WRITE	BIT(1)		/* from the buffer to memory */
#define EDU_CMD_IRQ	BIT(2)

/* The device's address of its buffer, and the maximum size of a transfer. */
#define EDU_BUF		0x40000
#define EDU_BUF_SIZE	4096

#define EDU_PAGES	4
#define EDU_SIZE	(EDU_PAGES * PAGE_SIZE)
#define EDU_SEGMENTS	(EDU_SIZE / EDU_BUF_SIZE)

static unsigned int edu_dma_bits = 28;
module_param_named(dma_bits, edu_dma_bits, uint, 0444);
MODULE_PARM_DESC(dma_bits, "bits in dma_mask, a property of the device in QEMU");

struct edu {
	struct pci_dev *pdev;
	u8 __iomem *regs;
	u8 *source;
	u8 *target;
	struct mutex lock;		/* protects what is in flight: */
	struct dma_phys_sg list;
	struct dma_phys_segment segments[EDU_SEGMENTS];
	int count;			/* of segments */
	struct dma_phys_map range;
	int step;			/* transfers so far, two per segment */
	size_t copied;			/* bytes */
};

static bool edu_is_running(struct edu *edu)
{
	return readq(edu->regs + EDU_DMA_CMD) & EDU_CMD_RUN;
}

/*
 * Start the next transfer: from a segment to the buffer, or from there to the
 * range. Return false if there is none.
 */
static bool edu_start_next(struct edu *edu)
{
	const struct dma_phys_segment *segment = &edu->segments[edu->step / 2];
	u64 target = edu->range.addr + edu->copied;
	bool write = edu->step % 2;

	if (edu->step / 2 == edu->count)
		return false;
	writeq(write ? EDU_BUF : segment->addr, edu->regs + EDU_DMA_SRC);
	writeq(write ? target : EDU_BUF, edu->regs + EDU_DMA_DST);
	writeq(segment->len, edu->regs + EDU_DMA_LEN);
	writeq(EDU_CMD_RUN | EDU_CMD_IRQ | (write ? EDU_CMD_WRITE : 0),
	       edu->regs + EDU_DMA_CMD);
	edu->step++;
	edu->copied += write ? segment->len : 0;
	return true;
}

/* The device must have finished, have been stopped, or not have been started. */
static void edu_unmap(struct edu *edu)
{
	dma_phys_sg_unmap(&edu->list);
	dma_phys_unmap(&edu->range);
}

static int edu_submit(struct edu *edu)
{
	struct cpu_phys source[EDU_PAGES], target;
	struct device *dev = &edu->pdev->dev;
	int err;

	guard(mutex)(&edu->lock);
	err = cpu_phys_from_virt(edu->target, EDU_SIZE, &target);
	for (int i = 0; i < EDU_PAGES && !err; i++)
		err = cpu_phys_from_page(vmalloc_to_page(edu->source +
							 i * PAGE_SIZE),
					 0, PAGE_SIZE, &source[i]);
	err = err ?: dma_phys_map_cpu(dev, &target, DMA_FROM_DEVICE, 0,
				      &edu->range);
	err = err ?: dma_phys_sg_map_cpu(dev, source, EDU_PAGES, DMA_TO_DEVICE,
					 0, edu->segments, EDU_SEGMENTS,
					 &edu->list);
	if (err < 0) {
		edu_unmap(edu);
		return err;
	}
	edu->count = err;
	edu_start_next(edu);
	return 0;
}

static irqreturn_t edu_irq(int irq, void *data)
{
	struct edu *edu = data;
	u32 status = readl(edu->regs + EDU_IRQ_STATUS);
	const char *route;
	bool equal;

	guard(mutex)(&edu->lock);
	writel(status, edu->regs + EDU_IRQ_ACK);
	if (!edu->list.dev || edu_is_running(edu) || edu_start_next(edu))
		return IRQ_RETVAL(status);

	route = dma_phys_route_name(edu->range.route);
	edu_unmap(edu);
	equal = !memcmp(edu->source, edu->target, EDU_SIZE);
	dev_info(&edu->pdev->dev, "copied %zu bytes, %d segments, route %s: %s\n",
		 edu->copied, edu->count, route, equal ? "verified" : "WRONG");
	return IRQ_HANDLED;
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	u8 *source __free(kvfree) = vmalloc(EDU_SIZE);
	struct device *dev = &pdev->dev;
	u8 *target = devm_kzalloc(dev, EDU_SIZE, GFP_KERNEL);
	struct edu *edu = devm_kzalloc(dev, sizeof(*edu), GFP_KERNEL);
	int err;

	/* With 32 bits writeq() is two writes, which the device does not take. */
	if (!edu_dma_bits || edu_dma_bits > BITS_PER_LONG)
		return -EINVAL;
	if (!source || !target || !edu)
		return -ENOMEM;
	for (size_t i = 0; i < EDU_SIZE; i++)
		source[i] = i * 7 + i / 256;
	edu->pdev = pdev;
	edu->source = source;
	edu->target = target;
	mutex_init(&edu->lock);
	pci_set_drvdata(pdev, edu);

	err = pcim_enable_device(pdev);
	err = err ?: dma_set_mask_and_coherent(dev, DMA_BIT_MASK(edu_dma_bits));
	if (err)
		return err;
	dma_set_max_seg_size(dev, EDU_BUF_SIZE);
	edu->regs = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(edu->regs))
		return PTR_ERR(edu->regs);
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_ALL_TYPES);
	if (err < 0)
		return err;
	err = devm_request_threaded_irq(dev, pci_irq_vector(pdev, 0), NULL,
					edu_irq, IRQF_ONESHOT, KBUILD_MODNAME,
					edu);
	if (err)
		return err;
	pci_set_master(pdev);
	err = edu_submit(edu);
	if (!err)
		retain_and_null_ptr(source);
	return err;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct edu *edu = pci_get_drvdata(pdev);
	bool running;

	guard(mutex)(&edu->lock);
	/* Stop it: without bus mastering it accesses no memory. */
	pci_clear_master(pdev);
	/* Its transfer ends by itself. The next driver must not continue it. */
	read_poll_timeout(edu_is_running, running, !running, USEC_PER_MSEC,
			  5 * USEC_PER_SEC, false, edu);
	edu_unmap(edu);
	vfree(edu->source);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },		/* QEMU */
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("QEMU's edu on typed physical-address mapping");
MODULE_LICENSE("GPL");
