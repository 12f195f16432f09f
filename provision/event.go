// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"ddtb/aaa"
)

// EventKind is what happened.
type EventKind string

// The kinds of events.
const (
	EventLogin    EventKind = "login"    // a session is in force
	EventChange   EventKind = "change"   // what it may have is another now: an operator or its backend decided so
	EventLogout   EventKind = "logout"   // it has ended
	EventKick     EventKind = "kick"     // it was ended by an operator
	EventTakeover EventKind = "takeover" // it was ended by a newer one, of the same subscriber or at the same outer address
	EventLost     EventKind = "lost"     // the watcher was too slow: Event.Lost events are missing here
)

// Event tells a Watcher of one session.
type Event struct {
	Time    time.Time
	Kind    EventKind
	Cause   aaa.Cause // of an end, else 0
	Session Session
	Lost    uint64
}

// Bounds of watching.
const (
	maxWatchers  = 64
	watcherDepth = 1024 // events a Watcher may be behind
)

// hub hands events to watchers. Nobody waits for a slow one.
type hub struct {
	count atomic.Int32
	mu    sync.Mutex
	all   map[*Watcher]struct{}
}

// Watcher is one reader of events.
type Watcher struct {
	hub  *hub
	more chan struct{} // one slot: there is something to read

	mu     sync.Mutex
	events []Event
	lost   uint64 // since the last event that found room
}

func (h *hub) watch() (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) >= maxWatchers {
		return nil, fmt.Errorf("%d watch already: %w", maxWatchers, ErrBusy)
	}
	w := &Watcher{hub: h, more: make(chan struct{}, 1)}
	if h.all == nil {
		h.all = make(map[*Watcher]struct{})
	}
	h.all[w] = struct{}{}
	h.count.Add(1)
	return w, nil
}

// watched tells whether it is worth making an event.
func (h *hub) watched() bool { return h.count.Load() > 0 }

func (h *hub) send(event Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.all {
		w.put(event)
	}
}

func (w *Watcher) put(event Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLost(event.Time)
	if len(w.events) >= watcherDepth {
		w.lost++
		return
	}
	w.events = append(w.events, event)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// flushLost puts the mark of what was lost before whatever comes next.
func (w *Watcher) flushLost(at time.Time) {
	if w.lost > 0 && len(w.events) < watcherDepth {
		w.events = append(w.events, Event{Time: at, Kind: EventLost, Lost: w.lost})
		w.lost = 0
	}
}

// Next waits for the next events, at least one, in the order they happened, or for ctx to be done.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	for {
		w.mu.Lock()
		if len(w.events) > 0 {
			out := w.events
			w.events = nil
			w.flushLost(out[len(out)-1].Time)
			w.mu.Unlock()
			return out, nil
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the watching.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if _, ok := w.hub.all[w]; ok {
		delete(w.hub.all, w)
		w.hub.count.Add(-1)
	}
}
