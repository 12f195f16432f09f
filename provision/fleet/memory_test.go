// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"testing"

	"ddtb/provision/fleet"
	"ddtb/provision/fleet/fleettest"
)

func TestMemory(t *testing.T) {
	fleettest.Run(t, func(*testing.T) (a, b fleet.Board) {
		board := fleet.NewMemory(nil)
		return board, board
	})
}
