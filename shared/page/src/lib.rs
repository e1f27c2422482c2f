//! What the pages of both programs share. A page is served on loopback, to whoever was given its address.
//!
//! | module | holds |
//! |---|---|
//! | [`guard`] | who may open a page: one-time addresses, keys, `Host` and `Origin` |
//! | [`server`] | connections, their number and their patience |
//! | [`confirm`] | questions that count once |
//! | [`live`] | that a page hears when something has changed |
//! | [`layout`] | the frame of a page, and the parts that it is put together from |
//! | [`chart`] | curves and bars as SVG |
//! | [`words`] | times, sizes and figures as people read them |

pub mod chart;
pub mod confirm;
pub mod guard;
pub mod layout;
pub mod live;
mod patient;
pub mod server;
pub mod words;
