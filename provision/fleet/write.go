// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"time"

	"ddtb/provision"
)

// tell writes what happens here, as it happens. What cannot be written is left to refresh.
func (a *Agent) tell(ctx context.Context) {
	for {
		events, err := a.watcher.Next(ctx)
		if err != nil {
			return // ctx is done
		}
		if a.write(ctx, events) != nil {
			poke(a.behind)
		}
	}
}

// write puts events on the board, with the sessions they are about as those are now: what began and has ended meanwhile
// is not there.
func (a *Agent) write(ctx context.Context, events []provision.Event) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	batch := Batch{Keep: 3 * a.Refresh}
	for _, e := range events {
		if e.Kind == provision.EventLost {
			a.metrics.lost.Add(float64(e.Lost))
			poke(a.behind)
			continue
		}
		batch.Events = append(batch.Events, Event{Time: e.Time, Kind: e.Kind, Cause: e.Cause, Session: Session{Session: e.Session}})
		a.include(&batch, e.Session.ID)
	}
	return a.put(ctx, batch)
}

// include adds a session to a batch, as one that is in force or as one that is not.
func (a *Agent) include(batch *Batch, id string) {
	if s, ok := a.broker.Session(id); ok && s.State == provision.Active {
		batch.Put = append(batch.Put, Session{Node: a.Name, Session: s})
	} else {
		batch.Drop = append(batch.Drop, id)
	}
}

func (a *Agent) put(ctx context.Context, batch Batch) error {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	err := a.board.Write(ctx, a.Name, batch)
	if err != nil {
		a.metrics.failed.Inc()
		return err
	}
	a.metrics.events.Add(float64(len(batch.Events)))
	a.metrics.sessions.Add(float64(len(batch.Put)))
	return nil
}

// refresh writes all sessions once in a while, or soon after something was not written.
func (a *Agent) refresh(ctx context.Context) {
	delay, next := retryFirst, time.Duration(0)
	for {
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-a.behind:
			timer.Stop()
			if !sleep(ctx, delay) { // while nothing can be written, it is not tried all the time
				return
			}
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if a.writeAll(ctx) == nil {
			delay, next = retryFirst, a.Refresh
			continue
		}
		delay = min(2*delay, retryLast)
		next = delay
	}
}

// sleep waits, and tells whether ctx is still not done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// writeAll makes the board say what is in force here, and nothing else.
func (a *Agent) writeAll(ctx context.Context) error {
	ids := make([]string, 0, writeMost)
	for s := range a.broker.Sessions(provision.Filter{State: provision.Active}) {
		if ids = append(ids, s.ID); len(ids) == writeMost {
			if err := a.writeSome(ctx, ids); err != nil {
				return err
			}
			ids = ids[:0]
		}
	}
	if err := a.writeSome(ctx, ids); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Refresh)
	defer cancel()
	return a.board.Prune(ctx, a.Name, func(id string) bool {
		s, ok := a.broker.Session(id)
		return ok && s.State == provision.Active
	})
}

// writeSome writes sessions as they are now. It takes turns with write, so that none is put that has been dropped.
func (a *Agent) writeSome(ctx context.Context, ids []string) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	batch := Batch{Keep: 3 * a.Refresh}
	for _, id := range ids {
		a.include(&batch, id)
	}
	return a.put(ctx, batch)
}
