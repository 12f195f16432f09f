// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
)

// paces is how often in a second sessions are ended while a server is drained.
const paces = 10

// drain begins or ends the draining of this server. It lasts until it is ended, or the daemon.
func (a *Agent) drain(ctx context.Context, on bool) error {
	if err := a.meet(ctx); err != nil && on {
		a.Logger.Debug().Err(err).Msg("draining: the other servers are taken to be as they were")
	}
	if on && len(choose(a.known(), 1)) == 0 && !a.Elsewhere() {
		return ErrNowhere
	}
	a.draining.Store(on)
	a.broker.Drain(a.refuses())
	a.aim(a.self())
	poke(a.beats)
	a.Logger.Info().Bool("on", on).Msg("draining")
	return nil
}

// empty ends the sessions of a server that is drained at its pace, for as long as there is another that their clients can
// go to.
func (a *Agent) empty(ctx context.Context) {
	tick := time.NewTicker(time.Second / paces)
	defer tick.Stop()
	owed := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !a.draining.Load() || len(a.Redirect()) == 0 && !a.Elsewhere() {
			continue
		}
		owed += a.Pace
		a.endSome(ctx, owed/paces)
		owed %= paces
	}
}

// endSome ends so many sessions.
func (a *Agent) endSome(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	ids := make([]string, 0, n)
	for s := range a.broker.Sessions(provision.Filter{State: provision.Active}) {
		if ids = append(ids, s.ID); len(ids) == n {
			break
		}
	}
	for _, id := range ids {
		if err := a.broker.Release(ctx, id, aaa.CauseAdminReboot); err != nil && !errors.Is(err, provision.ErrNotFound) && ctx.Err() == nil {
			a.Logger.Warn().Err(err).Msg("draining: the end of a session is not done; the sweep goes on with it")
			return
		}
	}
}
