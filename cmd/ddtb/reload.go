// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"

	"ddtb/cmd/ddtb/config"
)

// reload reads the configuration again and puts in force what can change while the daemon runs. What cannot is named in the log
// and stays; after an error everything stays.
func (d *daemon) reload() error {
	next, err := config.Load(d.file)
	if err != nil {
		return err
	}
	if err := d.host.complete(&next); err != nil {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	merged, changed, kept := config.Reload(d.config, next)
	if err := merged.TSP.Limits(merged.Server.DrainTime.Duration).Validate(); err != nil {
		return fmt.Errorf("tsp: %w", err)
	}
	if err := d.broker.Reload(merged.Settings()); err != nil {
		return err
	}
	if err := setLevel(merged.Log.Level); err != nil {
		return err
	}
	if err := d.bound(merged); err != nil {
		return err
	}
	d.backend.follow(policyOf(merged))
	d.config = merged
	d.log.Info().Strs("changed", changed).Msg("configuration read again")
	if len(kept) > 0 {
		d.log.Warn().Strs("keys", kept).Msg("these keys differ from what is in force and need a restart, which no tunnel notices")
	}
	return nil
}
