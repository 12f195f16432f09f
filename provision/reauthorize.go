// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"fmt"

	"ddtb/aaa"
)

// reauthorizeLoop asks backends again about the sessions that sweeps find due, apart from them: a backend that does not
// answer holds up no sweep.
func (b *Broker) reauthorizeLoop(ctx context.Context) {
	for {
		select {
		case due := <-b.renewals:
			err := b.parallel(ctx, due, b.reauthorize)
			if err != nil && ctx.Err() == nil {
				b.log.Warn().Err(err).Int("due", len(due)).Msg("not all sessions could be authorized again; they go on and are asked for again")
			}
		case <-ctx.Done():
			return
		}
	}
}

// renew hands sessions that are due to the loop, unless that is still busy with the last ones: the next sweep finds them.
func (b *Broker) renew(due []*entry) {
	if len(due) == 0 {
		return
	}
	select {
	case b.renewals <- due:
	default:
	}
}

// reauthorize asks about one session and does what the answer says. While no answer is to be had the session goes on.
func (b *Broker) reauthorize(ctx context.Context, e *entry) error {
	b.mu.Lock()
	current := e.state == Active && e.extra != nil && e.extra.renewal != nil
	b.mu.Unlock()
	if !current {
		return nil
	}
	session := b.snapshot(e)
	sub, err := b.ask(ctx, aaa.Renewal{
		Subscriber: session.Subscriber, Session: session.ID, TunnelID: session.TunnelID, Client: session.Client, Server: session.Local,
	})
	cause := aaa.Cause(0)
	switch {
	case errors.Is(err, aaa.ErrRejected):
		cause = aaa.CauseReauthentication
	case errors.Is(err, aaa.ErrUnknown):
		cause = aaa.CauseSessionTimeout // that is what it was to end by, if nobody says otherwise
	case err != nil:
		return err
	}
	if err := b.locks.lock(ctx, e.lockKey()); err != nil {
		return err
	}
	defer b.locks.unlock(e.lockKey())
	if cause == 0 {
		if err = b.settings.Load().fits(e, sub); err != nil {
			cause = aaa.CauseNASRequest
		}
	}
	if cause != 0 {
		b.log.Info().Err(err).Stringer("session", e.id).Str("user", session.Subscriber.Name).Stringer("cause", cause).Msg("session is not to go on")
		return b.endLocked(ctx, e, cause)
	}
	was := session.Subscriber
	if sub.Class == nil {
		sub.Class = was.Class
	}
	if sub.CUI == nil {
		sub.CUI = was.CUI
	}
	return b.regrant(ctx, e, sub, true)
}

func (b *Broker) ask(ctx context.Context, renewal aaa.Renewal) (aaa.Subscriber, error) {
	if b.backends == nil {
		return aaa.Subscriber{}, aaa.ErrUnknown
	}
	return b.backends.Reauthorize(ctx, renewal)
}

// fits tells whether the addresses of a session are still those that its subscriber is to have. They cannot change while it
// is in force: he has to log in anew.
func (s *settings) fits(e *entry, sub aaa.Subscriber) error {
	pool, index, foreign, err := s.wanted(sub)
	if err != nil {
		return err
	}
	if pool.Name != e.terms.Value().leasePool || index != 0 && index != e.index {
		return fmt.Errorf("pool %q and index %d are granted now, the session has %q and %d", pool.Name, index, e.terms.Value().leasePool, e.index)
	}
	if e.router && foreign != e.foreign() {
		return fmt.Errorf("prefix %v is granted now, the session has %v", foreign, e.foreign())
	}
	routes, further, err := s.routes(sub, e.router)
	if have := e.terms.Value(); err == nil && (routes != have.routes || further != have.further) {
		err = fmt.Errorf("routes to %v are granted now, %v of them delegated, the session has %v and %v", routes, further, have.routes, have.further)
	}
	return err
}
