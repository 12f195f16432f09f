// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"math"
	"slices"
	"time"
)

// median of values, NaN of none. The values keep their order.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest of values that at least p percent of them do not exceed (nearest rank); 0 of none. It
// sorts the values.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(p / 100 * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// milliseconds as a number with a fraction.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// medianRatio is the median of values[i]/references[i]: each pair was measured one right after the other, so that the
// machine's moods cancel out.
func medianRatio(values, references []float64) float64 {
	ratios := make([]float64, min(len(values), len(references)))
	for i := range ratios {
		ratios[i] = values[i] / references[i]
	}
	return median(ratios)
}
