ALTER TABLE segue.verify ADD COLUMN IF NOT EXISTS unread text;
