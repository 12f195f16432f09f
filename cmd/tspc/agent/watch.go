// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"context"
	"errors"
	"time"
)

// watch returns when the Session is dead, with the reason, or with another one that replaces it because its lifetime
// (RFC 5572 section 4.7.1) is nearly over.
func (a *Agent) watch(ctx context.Context) (next Session, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	info := a.session.Info()
	dead := make(chan struct{})
	var why error
	go func() {
		defer close(dead)
		why = a.Watch(ctx, info)
	}()
	defer func() { cancel(); <-dead }()

	renew := newTimer(a.renewal(info.Offer.Lifetime))
	defer renew.Stop()
	settled := newTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-dead:
			return nil, why
		case <-a.Machine.Changed():
			settled.Reset(settle)
		case <-settled.C:
			if a.moved(info) {
				return nil, errPathChanged
			}
		case <-renew.C:
			next, err := a.connect(ctx)
			if err == nil {
				return next, nil
			}
			renew.Reset(a.delays.next(err))
		}
	}
}

// renewal is when to replace a Session: well before the server ends it, not at the same moment as all others. It is 0
// for a Session without end.
func (a *Agent) renewal(lifetime time.Duration) time.Duration {
	return time.Duration(float64(lifetime) * (0.75 + 0.15*a.Rand()))
}

// moved says whether packets to the server now leave the machine by another path than the Session was opened on. No
// path at all may be a matter of seconds, and the keepalive's business if it is not.
func (a *Agent) moved(info Info) bool {
	path, err := a.Machine.Path(info.Server.Addr())
	return err == nil && path != a.using
}

// wait waits until the next round is due: after a delay, or soon if the network changed in a way that gives it another
// chance. It says false if ctx is done first.
func (a *Agent) wait(ctx context.Context, why error) bool {
	delay := a.delays.next(why)
	if errors.Is(why, errPathChanged) {
		delay = a.soon()
	}
	if delay == 0 {
		return ctx.Err() == nil
	}
	a.Report(Event{Kind: Waiting, Err: why, Delay: delay})
	timer := newTimer(delay)
	defer timer.Stop()
	settled := newTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-a.Machine.Changed():
			settled.Reset(max(settle, a.soon()))
		case <-settled.C:
			if !errors.Is(why, errRefused) && a.anotherChance() {
				return true
			}
		}
	}
}

// soon is the time until a round may begin because of the machine's network, however often that changes.
func (a *Agent) soon() time.Duration { return max(0, time.Until(a.begun.Add(minRound))) }

// anotherChance says whether what the last round tried is reached by another path now, or whether it could try nothing
// because no name was resolved.
func (a *Agent) anotherChance() bool {
	for server, old := range a.tried {
		if path, err := a.Machine.Path(server); err == nil && path != old {
			return true
		}
	}
	return len(a.tried) == 0
}

// newTimer makes a timer that fires after d, or never if d is 0.
func newTimer(d time.Duration) *time.Timer {
	timer := time.NewTimer(max(d, time.Hour))
	timer.Stop()
	if d > 0 {
		timer.Reset(d)
	}
	return timer
}
