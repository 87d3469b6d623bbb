// SPDX-License-Identifier: GPL-2.0

#include <linux/bio-integrity.h>
#include <linux/blk-mq.h>
#include <linux/device.h>
#include <linux/percpu-refcount.h>

__rust_helper int rust_helper_dev_to_node(struct device *dev)
{
	return dev_to_node(dev);
}

__rust_helper void rust_helper_percpu_ref_get(struct percpu_ref *ref)
{
	percpu_ref_get(ref);
}

__rust_helper void rust_helper_percpu_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}

__rust_helper bool
rust_helper_blk_mq_add_to_batch(struct request *rq, struct io_comp_batch *iob,
				bool is_error,
				void (*complete)(struct io_comp_batch *iob))
{
	return blk_mq_add_to_batch(rq, iob, is_error, complete);
}

__rust_helper void rust_helper_rq_list_add_tail(struct rq_list *list,
						struct request *rq)
{
	rq_list_add_tail(list, rq);
}

__rust_helper struct request *rust_helper_rq_list_pop(struct rq_list *list)
{
	return rq_list_pop(list);
}

/* The flags of the integrity data of a bio; 0 if it has none. */
__rust_helper unsigned int rust_helper_bio_integrity_flags(struct bio *bio)
{
	return bio_integrity(bio) ? bio_integrity(bio)->bip_flags : 0;
}

__rust_helper u16 rust_helper_bio_integrity_app_tag(struct bio *bio)
{
	return bio_integrity(bio) ? bio_integrity(bio)->app_tag : 0;
}
