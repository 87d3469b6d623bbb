/* SPDX-License-Identifier: GPL-2.0 */
enum dma_data_direction {
	DMA_NONE,
};
