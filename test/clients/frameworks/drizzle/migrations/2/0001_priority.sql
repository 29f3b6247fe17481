ALTER TABLE "tasks" ADD COLUMN "priority" integer DEFAULT 3 NOT NULL;--> statement-breakpoint
CREATE TABLE "milestones" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"tenant_id" bigint NOT NULL,
	"name" text NOT NULL
);
--> statement-breakpoint
CREATE INDEX "tasks_priority" ON "tasks" USING btree ("tenant_id","priority");--> statement-breakpoint
INSERT INTO "milestones" ("tenant_id", "name") SELECT "tenant_id", "name" FROM "projects" WHERE "position" = 0;--> statement-breakpoint
UPDATE "tasks" SET "priority" = "priority" + 1 WHERE "state" = 'open';
