// SPDX-License-Identifier: GPL-2.0
/*
 * A minimal driver for QEMU's "edu" that copies bytes in the memory of another
 * device. edu_phys.c copies in the memory of the machine: read it first.
 *
 * The driver binds to two devices. "ivshmem-plain" has memory in BAR 2, and the
 * driver shares it as a peer. When edu is bound, it copies the first half of
 * this memory to the second half, and the result is logged. edu_peer_submit()
 * attaches to the peer and maps both halves as one range. The interrupt of the
 * last transfer unmaps it. If the peer is removed before that, edu_peer_revoke()
 * unmaps it; if edu is removed, edu_peer_remove_edu() does. If there is no P2P
 * path between the devices, the probe of edu fails with -EREMOTEIO.
 *
 * edu must reach all addresses: "-device edu,dma_mask=0xffffffffffffffff".
 *
 * samples/rust/rust_edu_peer_phys.rs is the same driver in Rust.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys-peer.h>
#include <linux/dma-phys.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>

/* Registers of edu in BAR 0. */
#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_ACK	0x64
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_LEN	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_RUN	BIT(0)
#define EDU_CMD_WRITE	BIT(1)		/* from the buffer to the peer */
#define EDU_CMD_IRQ	BIT(2)

/* The device's address of its buffer, and the maximum size of a transfer. */
#define EDU_BUF		0x40000
#define EDU_BUF_SIZE	4096

/* The peer. The copy of EDU_SIZE bytes follows the source. */
#define PEER_DEVICE	0x1110
#define PEER_BAR	2
#define EDU_SIZE	(4 * EDU_BUF_SIZE)

/* The peer, NULL if there is none, and its memory. */
static DEFINE_MUTEX(edu_peer_owner_lock);
static struct pci_dev *edu_peer_owner;
static u8 __iomem *edu_peer_memory;

struct edu_peer {
	struct pci_dev *pdev;
	u8 __iomem *regs;
	struct dma_phys_peer_client client;
	struct mutex lock;		/* protects what is in flight: */
	struct dma_phys_map range;	/* the source and the copy */
	u8 __iomem *memory;		/* the same for the CPU, while mapped */
	int step;			/* transfers so far, two per EDU_BUF_SIZE */
};

/* A device that was unplugged does not run. Its registers read as all ones. */
static bool edu_peer_is_running(struct edu_peer *edu)
{
	u64 cmd = readq(edu->regs + EDU_DMA_CMD);

	return cmd != U64_MAX && cmd & EDU_CMD_RUN;
}

/* A transfer ends by itself. Return false if it takes too long. */
static bool edu_peer_wait(struct edu_peer *edu)
{
	bool running;

	return !read_poll_timeout(edu_peer_is_running, running, !running,
				  USEC_PER_MSEC, 5 * USEC_PER_SEC, false, edu);
}

/*
 * Start the next transfer: from the source to the buffer, or from there to the
 * copy. Return false if there is none.
 */
static bool edu_peer_start_next(struct edu_peer *edu)
{
	size_t offset = edu->step / 2 * EDU_BUF_SIZE;
	u64 source = edu->range.addr + offset;
	bool write = edu->step % 2;

	if (offset == EDU_SIZE)
		return false;
	writeq(write ? EDU_BUF : source, edu->regs + EDU_DMA_SRC);
	writeq(write ? source + EDU_SIZE : EDU_BUF, edu->regs + EDU_DMA_DST);
	writeq(EDU_BUF_SIZE, edu->regs + EDU_DMA_LEN);
	writeq(EDU_CMD_RUN | EDU_CMD_IRQ | (write ? EDU_CMD_WRITE : 0),
	       edu->regs + EDU_DMA_CMD);
	edu->step++;
	return true;
}

/* Write the source, and clear the copy. */
static void edu_peer_fill(u8 __iomem *memory)
{
	for (size_t i = 0; i < EDU_SIZE; i++)
		writeb(i * 7 + i / 256, memory + i);
	memset_io(memory + EDU_SIZE, 0, EDU_SIZE);
	/* The bytes have arrived when one of them can be read. */
	readb(memory);
}

static bool edu_peer_verify(u8 __iomem *memory)
{
	for (size_t i = 0; i < EDU_SIZE; i++)
		if (readb(memory + i) != readb(memory + EDU_SIZE + i))
			return false;
	return true;
}

/* The peer is being removed. It waits until the range is unmapped. */
static void edu_peer_revoke(struct dma_phys_peer_client *client)
{
	struct edu_peer *edu = container_of(client, struct edu_peer, client);

	guard(mutex)(&edu->lock);
	/* If it still runs, the last interrupt of the copy unmaps. */
	if (edu_peer_wait(edu))
		dma_phys_unmap(&edu->range);
}

static int edu_peer_submit(struct edu_peer *edu)
{
	struct mmio_phys range;
	int err;

	/* The owner takes this lock before it unregisters the peer. */
	guard(mutex)(&edu_peer_owner_lock);
	if (!edu_peer_owner)
		return -EPROBE_DEFER;
	err = mmio_phys_from_bar(edu_peer_owner, PEER_BAR, 0, 2 * EDU_SIZE,
				 &range);
	err = err ?: dma_phys_peer_attach(&range, &edu->client);
	if (err)
		return err;

	edu->memory = edu_peer_memory;
	edu_peer_fill(edu->memory);
	scoped_guard(mutex, &edu->lock) {
		err = dma_phys_map_mmio(&edu->pdev->dev, &range,
					DMA_BIDIRECTIONAL, 0, &edu->range);
		if (!err)
			edu_peer_start_next(edu);
	}
	if (err)
		dma_phys_peer_detach(&edu->client);
	return err;
}

static irqreturn_t edu_peer_irq(int irq, void *data)
{
	struct edu_peer *edu = data;
	u32 status = readl(edu->regs + EDU_IRQ_STATUS);

	guard(mutex)(&edu->lock);
	writel(status, edu->regs + EDU_IRQ_ACK);
	if (!edu->range.dev || edu_peer_is_running(edu) ||
	    edu_peer_start_next(edu))
		return IRQ_RETVAL(status);

	dev_info(&edu->pdev->dev, "copied %d bytes, route %s: %s\n", EDU_SIZE,
		 dma_phys_route_name(edu->range.route),
		 edu_peer_verify(edu->memory) ? "verified" : "WRONG");
	dma_phys_unmap(&edu->range);
	return IRQ_HANDLED;
}

static int edu_peer_probe_edu(struct pci_dev *pdev)
{
	struct device *dev = &pdev->dev;
	struct edu_peer *edu = devm_kzalloc(dev, sizeof(*edu), GFP_KERNEL);
	int err;

	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	edu->client.revoke = edu_peer_revoke;
	mutex_init(&edu->lock);
	pci_set_drvdata(pdev, edu);

	err = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	edu->regs = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(edu->regs))
		return PTR_ERR(edu->regs);
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_ALL_TYPES);
	if (err < 0)
		return err;
	err = devm_request_threaded_irq(dev, pci_irq_vector(pdev, 0), NULL,
					edu_peer_irq, IRQF_ONESHOT,
					KBUILD_MODNAME, edu);
	if (err)
		return err;
	pci_set_master(pdev);
	return edu_peer_submit(edu);
}

static void edu_peer_remove_edu(struct pci_dev *pdev)
{
	struct edu_peer *edu = pci_get_drvdata(pdev);

	/* Not under the lock: this waits for edu_peer_revoke(). */
	dma_phys_peer_detach(&edu->client);
	guard(mutex)(&edu->lock);
	/* Stop it: without bus mastering it accesses no memory. */
	pci_clear_master(pdev);
	/* The next driver must not continue its transfer. */
	edu_peer_wait(edu);
	dma_phys_unmap(&edu->range);
}

static int edu_peer_probe_owner(struct pci_dev *pdev)
{
	u8 __iomem *memory = pcim_iomap_region(pdev, PEER_BAR, KBUILD_MODNAME);
	int err;

	if (IS_ERR(memory))
		return PTR_ERR(memory);
	guard(mutex)(&edu_peer_owner_lock);
	if (edu_peer_owner)
		return -EBUSY;
	err = dma_phys_peer_register(pdev, PEER_BAR);
	if (err)
		return err;
	edu_peer_owner = pdev;
	edu_peer_memory = memory;
	return 0;
}

static void edu_peer_remove_owner(struct pci_dev *pdev)
{
	scoped_guard(mutex, &edu_peer_owner_lock)
		edu_peer_owner = NULL;
	/* Revokes edu, and waits until edu has unmapped the memory. */
	dma_phys_peer_unregister(pdev, PEER_BAR);
}

static int edu_peer_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int err = pcim_enable_device(pdev);

	if (err)
		return err;
	return pdev->device == PEER_DEVICE ? edu_peer_probe_owner(pdev) :
					     edu_peer_probe_edu(pdev);
}

static void edu_peer_remove(struct pci_dev *pdev)
{
	if (pdev->device == PEER_DEVICE)
		edu_peer_remove_owner(pdev);
	else
		edu_peer_remove_edu(pdev);
}

static const struct pci_device_id edu_peer_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },		/* QEMU's edu */
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, PEER_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_peer_ids);

static struct pci_driver edu_peer_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_peer_ids,
	.probe = edu_peer_probe,
	.remove = edu_peer_remove,
};
module_pci_driver(edu_peer_driver);

MODULE_DESCRIPTION("QEMU's edu on the memory of a peer");
MODULE_LICENSE("GPL");
