//! Subscriptions: the events of the log, first those stored, then those to come.

use std::sync::Arc;

use crate::error::ReadError;
use crate::event::TaskId;
use crate::protocol::{LogFilter, LogPage, LogStart, Notice, ReadLog, StorageBody, Subscribe};
use crate::stream::{Position, check_name};
use crate::time::Timestamp;

use super::checkpoint::Named;
use super::requests::Purpose;
use super::{Engine, Store, Task, Timer, mutant};

/// A subscription under way.
pub(super) struct Subscription {
    pub(super) serial: u64,
    pub(super) start: LogStart,
    /// Whether it is known where it starts.
    pub(super) has_started: bool,
    pub(super) after: Position,
    filter: LogFilter,
    limit: u32,
    follow: bool,
    descending: bool,
    /// Whether the reader is ready for a page.
    pub(super) wanted: bool,
    /// Whether the store is being asked for something.
    pub(super) asking: bool,
    /// Whether the log may have grown since the page under way was asked for.
    grown: bool,
    /// The next look at the log, at its head.
    look_at: Option<Timestamp>,
    pub(super) named: Option<Box<Named>>,
}

impl Engine {
    #[inline(never)]
    pub(super) fn start_subscription(&mut self, subscribe: Subscribe) {
        let Subscribe { task: id, name, start, mut filter, upcasts, limit, follow, descending } =
            subscribe;
        if let Some(Err(error)) = name.as_ref().map(|name| check_name("subscription's name", name))
        {
            return self.notice(Notice::SubscriptionEnded { task: id, result: Err(error.into()) });
        }
        let (has_started, after) = match start {
            LogStart::After(position) => (name.is_none(), position),
            LogStart::Now if descending => (true, Position(u64::MAX >> 11)),
            LogStart::Now => (false, Position(0)),
        };
        if upcasts && !filter.types.is_empty() {
            let becoming = self.config.aggregates.iter().flat_map(|known| known.becoming.iter());
            filter.types.extend(becoming.cloned());
        }
        let serial = self.next_serial();
        let task = Subscription {
            serial,
            start,
            has_started,
            after,
            filter,
            limit,
            follow,
            descending,
            wanted: true,
            asking: false,
            grown: false,
            look_at: None,
            named: name.map(|name| Box::new(Named::new(name))),
        };
        self.tasks.insert(id, Task::Subscription(Box::new(task)));
        self.subscriptions.insert((serial, id));
        self.ready.push_back(id);
    }

    pub(super) fn subscription_mut(&mut self, id: TaskId) -> &mut Subscription {
        match self.tasks.get_mut(&id) {
            Some(Task::Subscription(task)) => task,
            _ => unreachable!("task {} is a subscription", id.0),
        }
    }

    #[inline(never)]
    pub(super) fn step_subscription(&mut self, id: TaskId) {
        if !matches!(self.store, Store::Open(_)) {
            return;
        }
        let task = self.subscription_mut(id);
        if std::mem::replace(&mut task.asking, true) {
            return;
        }
        if !task.has_started {
            return self.find_start(id);
        }
        if self.save_checkpoint(id) {
            return;
        }
        let task = self.subscription_mut(id);
        if let Some(result) = task.named.as_mut().and_then(|named| named.ending.take()) {
            return self.end_subscription(id, result);
        }
        if !task.wanted || task.look_at.is_some() {
            task.asking = false;
            return;
        }
        task.grown = false;
        let read = ReadLog {
            after: task.after,
            descending: task.descending,
            filter: task.filter.clone(),
            limit: task.limit,
            held: true,
        };
        let serial = task.serial;
        self.send(StorageBody::ReadLog(Arc::new(read)), Purpose::ReadLog(id, serial));
    }

    #[inline(never)]
    pub(super) fn next_page(&mut self, id: TaskId) {
        // The subscription may have ended while its reader was asking.
        if let Some(Task::Subscription(task)) = self.tasks.get_mut(&id) {
            if let Some(at) = task.look_at.take() {
                self.timers.remove(&(at, Timer::Subscription(id)));
            }
            task.wanted = true;
            if let Some(named) = &mut task.named {
                named.handle_all();
            }
            self.ready.push_back(id);
        }
    }

    pub(super) fn page_handled(&mut self, id: TaskId, position: Position) {
        if let Some(Task::Subscription(task)) = self.tasks.get_mut(&id)
            && let Some(named) = &mut task.named
        {
            named.handle(position);
        }
    }

    #[inline(never)]
    pub(super) fn log_read(&mut self, id: TaskId, serial: u64, log: LogPage) {
        let page = self.keep(log.page);
        let poll = match &self.store {
            Store::Open(info) if info.notifies => None,
            _ => Some(self.config.poll_interval),
        };
        let Some(Task::Subscription(task)) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.serial != serial {
            return;
        }
        task.asking = false;
        // A store that does not go on before its end is not asked again at once.
        let goes_on = if task.descending {
            Position(1) < log.next && log.next < task.after
        } else {
            task.after < log.next && log.next < log.head
        };
        task.after = log.next;
        if let Some(named) = &mut task.named {
            named.give(log.next, page.is_empty());
            // The checkpoint may be far behind by now.
            self.ready.push_back(id);
        }
        if !page.is_empty() {
            task.wanted = false;
            let checkpoint = task.named.as_ref().and_then(|named| named.checkpoint());
            let page = page.to_page();
            self.notice(Notice::Events { task: id, page, next: log.next, checkpoint });
        } else if goes_on || task.grown {
            self.ready.push_back(id);
        } else if !task.follow {
            self.leave(id, Ok(()));
        } else if let Some(interval) = poll {
            let at = self.set_timer(interval, Timer::Subscription(id));
            self.subscription_mut(id).look_at = Some(at);
        } else {
            task.look_at = Some(Timestamp::from_millis(i64::MAX));
        }
    }

    pub(super) fn look_again(&mut self, id: TaskId, at: Timestamp) {
        if let Some(Task::Subscription(task)) = self.tasks.get_mut(&id)
            && task.look_at == Some(at)
        {
            task.look_at = None;
            self.ready.push_back(id);
        }
    }

    /// Somebody has appended: those who wait at the head look again.
    pub(super) fn advanced(&mut self, position: Option<Position>) {
        self.advance_runners(position);
        let has_gap = mutant!(self, GapAtSeam);
        self.advance_reactors(position);
        for (_, id) in self.subscriptions.iter() {
            let Some(Task::Subscription(task)) = self.tasks.get_mut(id) else {
                continue;
            };
            if position.is_some_and(|position| position <= task.after) {
                continue;
            }
            task.grown = true;
            if let Some(at) = task.look_at.take() {
                if let (true, Some(position)) = (has_gap, position) {
                    task.after = Position(position.0 - 1);
                }
                self.timers.remove(&(at, Timer::Subscription(*id)));
                self.ready.push_back(*id);
            }
        }
    }

    pub(super) fn cancel_subscription(&mut self, id: TaskId) {
        self.leave(id, Err(ReadError::Cancelled));
    }

    /// Ends the subscription, once its checkpoint is where it belongs.
    #[inline(never)]
    fn leave(&mut self, id: TaskId, result: Result<(), ReadError>) {
        match &mut self.subscription_mut(id).named {
            Some(named) if named.holds_back() => {
                named.ending = Some(result);
                self.ready.push_back(id);
            }
            _ => self.end_subscription(id, result),
        }
    }

    pub(super) fn end_subscription(&mut self, id: TaskId, result: Result<(), ReadError>) {
        if let Some(Task::Subscription(task)) = self.tasks.remove(&id) {
            self.subscriptions.remove(&(task.serial, id));
            if let Some(at) = task.look_at {
                self.timers.remove(&(at, Timer::Subscription(id)));
            }
        }
        self.notice(Notice::SubscriptionEnded { task: id, result });
    }
}
