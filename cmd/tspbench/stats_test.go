// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"math"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 1000}, 1},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
	values := []float64{9, 1, 5}
	median(values)
	if values[0] != 9 {
		t.Error("median sorted its argument")
	}
}

// TestMedianRatio pairs each value with the reference measured beside it: a machine that was slow for a while does not
// matter.
func TestMedianRatio(t *testing.T) {
	if got := medianRatio([]float64{20, 200, 2000}, []float64{10, 100, 1000}); got != 2 {
		t.Errorf("ratio = %v, want 2", got)
	}
	if got := medianRatio([]float64{20, 30}, []float64{10}); got != 2 {
		t.Errorf("ratio of unequal lengths = %v, want 2", got)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for _, test := range []struct {
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 99, 7},
		{[]time.Duration{7}, 0, 7},
		{[]time.Duration{2, 1}, 50, 1},
		{[]time.Duration{2, 1}, 51, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
	} {
		if got := percentile(test.values, test.p); got != test.want {
			t.Errorf("percentile %v of %d values = %v, want %v", test.p, len(test.values), got, test.want)
		}
	}
}
