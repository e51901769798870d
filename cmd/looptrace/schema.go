// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
)

// schemaCommand is `looptrace schema`.
func schemaCommand() *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of a record",
		Action: func(c *cli.Context) error {
			_, err := c.App.Writer.Write(output.Schema())
			return err
		},
	}
}
