//! Known bugs that can be put in on purpose: the simulator proves with them that it would find such.
//!
//! Only with the feature `mutants`, which nobody ships, one of them can be chosen for a thread.
//! Without it `is` is false for the compiler, and no trace of them is left.

/// A bug, named by what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it, the places show it
pub enum Mutant {
    LinkGenerationIgnored,
    ClientGenerationIgnored,
    ReadinessLostBehindAnyRead,
    DeadWaiterEndsAdmission,
    PostSentTwice,
    BlockLeaked,
    LinkLeaked,
    PlaceLeaked,
    OneMoreThanN,
    LinkKeptBehindEarlyResponse,
    LinkKeptWithBytesUnread,
    EndTakenForAbort,
    DeadlineNotRearmed,
    ProbeAnsweredByTheLastOne,
    InterimTakenForFinal,
    LastChunkForgotten,
    HeadGivenContent,
    ShortContentTakenForWhole,
    RefusalIsFinal,
    YieldForgotten,
    QueueLastInFirstOut,
    QueueJumped,
    RestNotHeld,
    CursorKeptForRetry,
    PipelinedRequestDropped,
    WaiterNotWatched,
    StaleLinkIsFatal,
    ClosedWithoutLingering,
    ListenerEdgeLost,
    LackIsFinal,
    TunnelEndsWithOneSide,
    PanicInAStep,
    TrailersLost,
    CutInGoodOrder,
    DrainedServerChosen,
    RemovedServerChecked,
    RemovalCutsRequests,
    SlotFreedEarly,
    PipeForgotten,
    PipeLeaked,
    PipeReusedWithBytes,
    ReadinessLostBehindAnySplice,
    SpliceOverruns,
    GatheredOvertaken,
    DrainBreaksItsWord,
    OrderNotCarriedOut,
    ForeignPageObeyed,
    ElderObeysOrders,
}

/// All of them.
pub const ALL: &[Mutant] = &[
    Mutant::LinkGenerationIgnored,
    Mutant::ClientGenerationIgnored,
    Mutant::ReadinessLostBehindAnyRead,
    Mutant::DeadWaiterEndsAdmission,
    Mutant::PostSentTwice,
    Mutant::BlockLeaked,
    Mutant::LinkLeaked,
    Mutant::PlaceLeaked,
    Mutant::OneMoreThanN,
    Mutant::LinkKeptBehindEarlyResponse,
    Mutant::LinkKeptWithBytesUnread,
    Mutant::EndTakenForAbort,
    Mutant::DeadlineNotRearmed,
    Mutant::ProbeAnsweredByTheLastOne,
    Mutant::InterimTakenForFinal,
    Mutant::LastChunkForgotten,
    Mutant::HeadGivenContent,
    Mutant::ShortContentTakenForWhole,
    Mutant::RefusalIsFinal,
    Mutant::YieldForgotten,
    Mutant::QueueLastInFirstOut,
    Mutant::QueueJumped,
    Mutant::RestNotHeld,
    Mutant::CursorKeptForRetry,
    Mutant::PipelinedRequestDropped,
    Mutant::WaiterNotWatched,
    Mutant::StaleLinkIsFatal,
    Mutant::ClosedWithoutLingering,
    Mutant::ListenerEdgeLost,
    Mutant::LackIsFinal,
    Mutant::TunnelEndsWithOneSide,
    Mutant::PanicInAStep,
    Mutant::TrailersLost,
    Mutant::CutInGoodOrder,
    Mutant::DrainedServerChosen,
    Mutant::RemovedServerChecked,
    Mutant::RemovalCutsRequests,
    Mutant::SlotFreedEarly,
    Mutant::PipeForgotten,
    Mutant::PipeLeaked,
    Mutant::PipeReusedWithBytes,
    Mutant::ReadinessLostBehindAnySplice,
    Mutant::SpliceOverruns,
    Mutant::GatheredOvertaken,
    Mutant::DrainBreaksItsWord,
    Mutant::OrderNotCarriedOut,
    Mutant::ForeignPageObeyed,
    Mutant::ElderObeysOrders,
];

/// Whether this bug is in.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use chosen::choose;
#[cfg(feature = "mutants")]
pub(crate) use chosen::is;

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Puts one bug, or none, into all that this thread runs.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Whether this bug is in.
    pub(crate) fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}
