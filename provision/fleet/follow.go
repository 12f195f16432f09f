// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
)

// actMost bounds what is being done at a time because other servers said so: each waits for the store and the accountant.
const actMost = 64

// follow reads what the other servers write. What was written before it could, at first and after each time in which it
// could not, may have ended sessions here.
func (a *Agent) follow(ctx context.Context) {
	acts := newActs()
	defer acts.wait()
	delay := retryFirst
	for ctx.Err() == nil {
		err := a.board.Follow(ctx, a.Name, Follower{
			Ready: func() {
				delay = retryFirst
				poke(a.doubt)
			},
			Event:   func(e Event) { a.heard(ctx, acts, e) },
			Command: func(c Command) { acts.begin(func() { a.obey(ctx, c) }) },
		})
		if err == nil {
			return // ctx is done
		}
		a.Logger.Debug().Err(err).Msg("what the other servers write cannot be read")
		if !sleep(ctx, delay) {
			return
		}
		delay = min(2*delay, retryLast)
	}
}

// reassert asks for all leases whenever some may have been lost.
func (a *Agent) reassert(ctx context.Context) {
	for {
		select {
		case <-a.doubt:
		case <-ctx.Done():
			return
		}
		if err := a.broker.Reassert(ctx); err != nil && ctx.Err() == nil {
			a.Logger.Warn().Err(err).Msg("leases were not extended; the sweep tries again")
		}
	}
}

// heard acts on an event of another server.
func (a *Agent) heard(ctx context.Context, acts *acts, e Event) {
	if e.Node == a.Name || e.Kind != provision.EventLogin {
		return
	}
	s := e.Session
	a.compare(e)
	rival := provision.Rival{ID: s.ID, Owner: s.Owner, Pool: s.Pool, Endpoint: s.Endpoint, Since: s.Since}
	if !a.broker.Contested(rival) {
		return
	}
	acts.begin(func() {
		begin := a.Clock()
		if err := a.broker.Contest(ctx, rival); err != nil {
			a.Logger.Warn().Err(err).Str("session", s.ID).Str("node", e.Node).Msg("a login at another server may have ended a session here; the sweep finds out")
			return
		}
		a.metrics.contested.Observe(a.Clock().Sub(begin).Seconds())
	})
}

// compare tells of a network that is led to two subscribers, at two servers: their backend's mistake. Which of the two is right
// nobody here knows.
func (a *Agent) compare(e Event) {
	s := e.Session
	prefixes := slices.Collect(s.Routes.All())
	if s.Prefix.IsValid() {
		prefixes = append(prefixes, s.Prefix)
	}
	if mine, ok := a.broker.Overlapping(s.Subscriber.Name, prefixes...); ok {
		a.metrics.overlaps.Inc()
		a.Logger.Error().Str("user", s.Subscriber.Name).Str("node", e.Node).Stringer("prefix", s.Prefix).Stringer("routes", s.Routes).
			Str("other", mine.Subscriber.Name).Str("session", mine.ID).Stringer("its_routes", mine.Routes).
			Msg("a network is led to one subscriber at another server and to one here: what their backend grants has to be put right")
	}
}

// obey does what another server asks for.
func (a *Agent) obey(ctx context.Context, c Command) {
	var err error
	switch c.Verb {
	case Kick:
		err = a.broker.Release(ctx, c.Session, aaa.CauseAdminReset)
		if errors.Is(err, provision.ErrNotFound) {
			poke(a.behind) // so the board says otherwise
			return
		}
	case Drain:
		err = a.drain(ctx, true)
	case Undrain:
		err = a.drain(ctx, false)
	default:
		err = errors.New("no such command")
	}
	line := a.Logger.Info()
	if err != nil {
		line = a.Logger.Warn().Err(err)
	}
	line.Str("verb", string(c.Verb)).Str("session", c.Session).Str("by", c.By).Msg("asked by another server")
}

// acts are a bounded number of things that are being done.
type acts struct {
	slots chan struct{}
	group sync.WaitGroup
}

func newActs() *acts { return &acts{slots: make(chan struct{}, actMost)} }

// begin does something beside the caller, who waits while too much is being done.
func (a *acts) begin(what func()) {
	a.slots <- struct{}{}
	a.group.Go(func() {
		defer func() { <-a.slots }()
		what()
	})
}

func (a *acts) wait() { a.group.Wait() }

// await asks again and again until done says so or time is up.
func await(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ErrUnavailable
		}
	}
}
