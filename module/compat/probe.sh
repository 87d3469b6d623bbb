#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# probe.sh SOURCE BUILD: compiler flags that say what a kernel has.
#
# HAVE_<name>: a header matches. EXPORTED_<name>: modules may use the symbol.
source=$1 build=$2

while read -r name header pattern; do
	if grep -qs "$pattern" "$source/include/linux/$header"; then
		echo "-DHAVE_$name"
	fi
done <<'END'
dma_map_phys dma-mapping.h \<dma_map_phys(
arch_dma_map_phys_direct dma-map-ops.h \<arch_dma_map_phys_direct(
dev_dma_ops_bypass device.h accessors(dma_ops_bypass,
phys_vec types.h ^struct phys_vec {
dma_iova_try_alloc dma-mapping.h \<dma_iova_try_alloc(
dma_iova_link_vecs dma-mapping.h \<dma_iova_link_vecs(
page_pgmap mmzone.h \<page_pgmap(
get_dev_pagemap_of_pfn memremap.h \<get_dev_pagemap(unsigned long pfn);
req_phys_gap_mask blk-mq.h \<req_phys_gap_mask(
init_request_of_int blk-mq.h unsigned int, int);
pi_tuple_size blkdev.h \<pi_tuple_size;
BLK_SPLIT_INTERVAL_CAPABLE blk-integrity.h \<BLK_SPLIT_INTERVAL_CAPABLE\>
BIP_CHECK_GUARD bio-integrity.h \<BIP_CHECK_GUARD\>
pcim_p2pdma_provider pci-p2pdma.h \<pcim_p2pdma_provider(
NVME_CTRL_SGLS_BYTE_ALIGNED nvme.h \<NVME_CTRL_SGLS_BYTE_ALIGNED\>
END

while read -r name symbol; do
	if grep -qs "	$symbol	" "$build/Module.symvers"; then
		echo "-DEXPORTED_$name"
	fi
done <<'END'
dma_map_phys_event __tracepoint_dma_map_phys
pci_p2pdma_map_type pci_p2pdma_map_type
END
