// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
)

// notifier tells systemd how the daemon does (sd_notify(3)). Without a NOTIFY_SOCKET it says nothing.
type notifier struct {
	log     zerolog.Logger
	alive   func() error  // nil while the daemon works; else the watchdog is left to bite
	summary func() string // for `systemctl status`
}

// say sends one message. A manager that does not listen is no reason to stop.
func (n notifier) say(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		n.log.Warn().Err(err).Msg("systemd was not told")
	}
}

// reloading brackets a reload, as Type=notify-reload wants it.
func (n notifier) reloading(do func()) {
	n.say(sd.SdNotifyReloading)
	do()
	n.say(sd.SdNotifyReady)
}

// task says READY once all the others are ready, then keeps the status line and the watchdog fed until ctx is done.
func (n notifier) task(others []task) task {
	return newRoutine("systemd notifier", func(ctx context.Context, ready func()) error {
		if name, ok := awaitReady(ctx, others...); !ok {
			n.log.Debug().Str("task", name).Msg("stopped before it was ready")
			return nil
		}
		interval, err := sd.SdWatchdogEnabled(false)
		if err != nil {
			return fmt.Errorf("WATCHDOG_USEC: %w", err)
		}
		watchdog := interval > 0
		if !watchdog {
			interval = time.Minute
		}
		ready()
		n.say(sd.SdNotifyReady + "\nSTATUS=" + n.summary())
		n.log.Info().Msg("ready")
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				n.say(sd.SdNotifyStopping)
				return nil
			case <-ticker.C:
				n.tick(watchdog)
			}
		}
	})
}

func (n notifier) tick(watchdog bool) {
	state := "STATUS=" + n.summary()
	if err := n.alive(); err != nil {
		n.log.Error().Err(err).Msg("the watchdog is not fed")
	} else if watchdog {
		state = sd.SdNotifyWatchdog + "\n" + state
	}
	n.say(state)
}
