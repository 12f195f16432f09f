// SPDX-License-Identifier: GPL-2.0-or-later

package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"ddtb/provision"
)

// Table is where the routes are: Kernel or Memory. routetest holds the suite that both pass.
type Table interface {
	// List gives the destinations of all routes there are.
	List() ([]netip.Prefix, error)
	// Add makes a route to a destination. One that is there already is no error.
	Add(netip.Prefix) error
	// Delete takes a route away. One that is not there is no error.
	Delete(netip.Prefix) error
}

// Exporter keeps a Table as the sessions of a Broker want it.
type Exporter struct {
	broker *provision.Broker
	table  Table
	log    zerolog.Logger
	every  time.Duration
}

// settle is how long an Exporter waits for what belongs together: the session that takes the place of another with the
// same addresses must not make their routes go and come.
const settle = 10 * time.Millisecond

// DefaultEvery is how often the whole table is looked at, if New is not told otherwise.
const DefaultEvery = time.Minute

// New makes an Exporter. every is how often the whole table is compared with the sessions; 0: DefaultEvery. Run has to run.
func New(broker *provision.Broker, table Table, every time.Duration, log zerolog.Logger) *Exporter {
	if every == 0 {
		every = DefaultEvery
	}
	return &Exporter{broker: broker, table: table, log: log, every: every}
}

// Run works until ctx is done, then returns nil. It touches nothing before the Broker has recovered: until then it is not
// known which sessions there are.
func (e *Exporter) Run(ctx context.Context) error {
	watcher, err := e.broker.Watch()
	if err != nil {
		return fmt.Errorf("watch sessions: %w", err)
	}
	defer watcher.Close()
	if !e.recovered(ctx) {
		return nil
	}
	failed := e.compare()
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, e.every)
		events, err := watcher.Next(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // nothing happened for long
			failed = e.report(failed, e.compare())
			continue
		}
		if !pause(ctx, settle) {
			return nil
		}
		failed = e.report(failed, e.follow(events))
	}
	return nil
}

// pause waits and tells whether ctx is still not done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// recovered waits for the Broker.
func (e *Exporter) recovered(ctx context.Context) bool {
	for !e.broker.Status().Ready {
		if !pause(ctx, settle) {
			return false
		}
	}
	return true
}

// report logs an error when it is new.
func (e *Exporter) report(before, err error) error {
	if err != nil && (before == nil || before.Error() != err.Error()) {
		e.log.Error().Err(err).Msg("routes to subscribers are not as they should be; they are compared again")
	}
	return err
}

// destinations are what a session wants routes to.
func destinations(s provision.Session) []netip.Prefix {
	out := []netip.Prefix{netip.PrefixFrom(s.Endpoint, s.Endpoint.BitLen())}
	if s.Prefix.IsValid() {
		out = append(out, s.Prefix)
	}
	return slices.AppendSeq(out, s.Routes.All())
}

// follow makes the routes right that events are about. If that fails, or events are missing, all are compared.
func (e *Exporter) follow(events []provision.Event) error {
	var errs []error
	missed := false
	for _, event := range events {
		if event.Kind == provision.EventLost {
			missed = true
			continue
		}
		errs = append(errs, e.update(event.Session))
	}
	if missed || errors.Join(errs...) != nil {
		return e.compare()
	}
	return nil
}

// update makes the routes of a session's tunnel those of the session that has it now.
func (e *Exporter) update(s provision.Session) error {
	now, there := e.broker.Tunnel(s.TunnelID)
	wanted := map[netip.Prefix]bool{}
	var errs []error
	if there {
		for _, prefix := range destinations(now) {
			wanted[prefix] = true
			errs = append(errs, e.table.Add(prefix))
		}
	}
	for _, prefix := range destinations(s) {
		if !wanted[prefix] {
			errs = append(errs, e.table.Delete(prefix))
		}
	}
	return errors.Join(errs...)
}

// compare makes the whole table right.
func (e *Exporter) compare() error {
	there, err := e.table.List()
	if err != nil {
		return err
	}
	stale := make(map[netip.Prefix]bool, len(there))
	for _, prefix := range there {
		stale[prefix] = true
	}
	var errs []error
	for s := range e.broker.Sessions(provision.Filter{State: provision.Active}) {
		for _, prefix := range destinations(s) {
			if stale[prefix] {
				delete(stale, prefix)
				continue
			}
			errs = append(errs, e.update(s)) // as it is by now
		}
	}
	if len(stale) > 0 { // some may be wanted by sessions that began just now
		for s := range e.broker.Sessions(provision.Filter{State: provision.Active}) {
			for _, prefix := range destinations(s) {
				delete(stale, prefix)
			}
		}
	}
	for prefix := range stale {
		errs = append(errs, e.table.Delete(prefix))
	}
	return errors.Join(errs...)
}
