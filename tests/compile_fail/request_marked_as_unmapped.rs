// SPDX-License-Identifier: GPL-2.0

//! A driver does not mark a request as unmapped: it would be mapped twice with one list.

use kernel::{
    block::mq::{Operations, Request},
    dma::phys::MapsRequests,
    sync::atomic::Relaxed,
};

pub fn mark<T, D: Send + Sync>(rq: &Request<T>)
where
    T: MapsRequests + Operations<RequestData = D>,
{
    rq.data().get_ref().list().1.store(false, Relaxed);
    //~^ ERROR E0133 call to unsafe function
}
