// SPDX-License-Identifier: GPL-2.0

//! The segments of a request are described while it is mapped, and not later.

use core::mem::swap;
use kernel::{
    block::mq::Request,
    device::{Bound, Device},
    dma::phys::{MapsRequests, RequestMapping, Segment},
    prelude::*,
    sync::aref::ARef,
};

pub fn keep<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> Option<Segment> {
    let mut kept = None;

    let _map = RequestMapping::map(dev, rq, |segments| {
        kept = Some(segments);
        //~^ ERROR E0521 borrowed data escapes outside of closure
        Ok(())
    });
    kept?.next()
}

pub fn return_them<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> Result<usize> {
    let (_map, segments) = RequestMapping::map(dev, rq, |segments| Ok(segments))?;
    //~^ ERROR lifetime may not live long enough
    Ok(segments.size())
}

pub fn exchange<T: MapsRequests>(
    dev: &Device<Bound>,
    one: ARef<Request<T>>,
    two: ARef<Request<T>>,
) -> bool {
    RequestMapping::map(dev, one, |outer| {
        RequestMapping::map(dev, two, |inner| {
            swap(outer, inner);
            //~^ ERROR E0521 borrowed data escapes outside of closure
            Ok(())
        })?;
        Ok(())
    })
    .is_ok()
}

pub fn copy<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> bool {
    RequestMapping::map(dev, rq, |segments| Ok((*segments).count())).is_ok()
    //~^ ERROR E0507 cannot move out of `*segments` which is behind a mutable reference
}
