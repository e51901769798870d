// SPDX-License-Identifier: Apache-2.0

// Objects is an object storage in memory, with the interface of S3. It is a module of its own, so that looptrace does
// not depend on it.
//
//	objects ADDRESS BUCKET
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: objects ADDRESS BUCKET")
		os.Exit(2)
	}
	backend := s3mem.New()
	err := backend.CreateBucket(os.Args[2])
	if err == nil {
		err = http.ListenAndServe(os.Args[1], gofakes3.New(backend).Server())
	}
	fmt.Fprintln(os.Stderr, "objects:", err)
	os.Exit(1)
}
