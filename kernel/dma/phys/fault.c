// SPDX-License-Identifier: GPL-2.0
/*
 * Fault injection: fail_dma_phys= on the kernel's command line, fail_dma_phys/ in
 * debugfs, or the fail-nth file of a task, see
 * Documentation/fault-injection/fault-injection.rst.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/fault-inject.h>
#include <linux/init.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>

#include "internal.h"

DECLARE_FAULT_ATTR(dma_phys_fault);

bool dma_phys_fail(void)
{
	return should_fail(&dma_phys_fault, 1);
}

bool dma_phys_may_fail(void)
{
	return READ_ONCE(dma_phys_fault.probability) || current->fail_nth;
}

static int dma_phys_fault_set(const char *value,
			      const struct kernel_param *param)
{
	return setup_fault_attr(&dma_phys_fault, (char *)value) ? 0 : -EINVAL;
}

static const struct kernel_param_ops dma_phys_fault_ops = {
	.set = dma_phys_fault_set,
};

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX ""
core_param_cb(fail_dma_phys, &dma_phys_fault_ops, NULL, 0);

static int __init dma_phys_fault_init(void)
{
	return PTR_ERR_OR_ZERO(fault_create_debugfs_attr("fail_dma_phys", NULL,
							 &dma_phys_fault));
}
late_initcall(dma_phys_fault_init);
