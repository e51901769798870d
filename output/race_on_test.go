// SPDX-License-Identifier: Apache-2.0

//go:build race

package output

// raceDetector: sync.Pool then drops what it is given now and then, on purpose.
const raceDetector = true
